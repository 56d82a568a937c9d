"""How many images each dataset has in each state, kept by the database itself.

Counting a million rows takes longer than a request may. Triggers keep the counts in the transaction
that changes the rows, so they are right after any crash and whatever statement it was.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, insert, select, text

from futu.catalogue.schema import Image, ImageCount

_ADD = """INSERT INTO image_counts (dataset_id, state, images) VALUES (NEW.dataset_id, NEW.state, 1)
    ON CONFLICT (dataset_id, state) DO UPDATE SET images = image_counts.images + 1;"""
_TAKE = """UPDATE image_counts SET images = images - 1
    WHERE dataset_id = OLD.dataset_id AND state = OLD.state;"""

_SQLITE = {
    "count_inserted_images": f"AFTER INSERT ON images BEGIN {_ADD} END",
    "count_deleted_images": f"AFTER DELETE ON images BEGIN {_TAKE} END",
    "count_changed_images": f"""AFTER UPDATE OF dataset_id, state ON images
        WHEN OLD.state IS NOT NEW.state OR OLD.dataset_id IS NOT NEW.dataset_id
        BEGIN {_TAKE} {_ADD} END""",
}

# One statement of a build changes many rows; they are counted together.
_FUNCTION = """
CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO image_counts AS kept (dataset_id, state, images)
    SELECT dataset_id, state, sum(step) FROM ({rows}) AS changed
    GROUP BY dataset_id, state HAVING sum(step) <> 0
    ON CONFLICT (dataset_id, state) DO UPDATE SET images = kept.images + excluded.images;
    RETURN NULL;
END $$
"""
_CAME = "SELECT dataset_id, state, 1 AS step FROM came"
_WENT = "SELECT dataset_id, state, -1 AS step FROM went"
_POSTGRESQL = {
    "count_inserted_images": ("INSERT", "NEW TABLE AS came", _CAME),
    "count_deleted_images": ("DELETE", "OLD TABLE AS went", _WENT),
    "count_changed_images": (
        "UPDATE",
        "OLD TABLE AS went NEW TABLE AS came",
        f"{_CAME} UNION ALL {_WENT}",
    ),
}


def install(db: Connection) -> None:
    """Make the triggers that are lacking, and then count once; a transaction that may write.

    They belong to the table: a migration that makes the table anew loses them.
    """
    if db.dialect.name == "sqlite":
        query = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'images'"
    else:
        query = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'images'::regclass"
    there = {row[0] for row in db.execute(text(query))}
    lacking = _SQLITE.keys() - there
    for name in sorted(lacking):
        if db.dialect.name == "sqlite":
            db.exec_driver_sql(f"CREATE TRIGGER {name} {_SQLITE[name]}")
            continue
        what, tables, rows = _POSTGRESQL[name]
        db.exec_driver_sql(_FUNCTION.format(name=name, rows=rows))
        db.exec_driver_sql(
            f"CREATE TRIGGER {name} AFTER {what} ON images REFERENCING {tables} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {name}()"
        )
    if lacking:
        recount(db)


def recount(db: Connection) -> None:
    """Count all images."""
    db.execute(delete(ImageCount))
    counted = select(Image.dataset_id, Image.state, func.count()).group_by(
        Image.dataset_id, Image.state
    )
    db.execute(insert(ImageCount).from_select(["dataset_id", "state", "images"], counted))
