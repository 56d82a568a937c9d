"""futu export, import, backup and restore as commands, beside a controller."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.integration.conftest import Site
from tests.pictures import jpeg

from futu.catalogue.schema import DONE, READY
from futu.cli import cli
from futu.errors import FutuError

PICTURES = {f"{n}.jpg": jpeg(n, (40, 30)) for n in range(3)}


def futu(site: Site, *arguments: object) -> Result:
    """A command on the data directory of a site."""
    command = [str(a) for a in (*arguments, "--data-dir", site.settings.data_dir)]
    return CliRunner().invoke(
        cli, command, env={"FUTU_DATASETS_DIR": str(site.folder / "datasets")}
    )


def made(site: Site, *arguments: object) -> str:
    result = futu(site, *arguments)
    assert result.exit_code == 0, result.output + str(result.exception)
    return result.output


@pytest.fixture
def indexed(site: Site) -> Site:
    """A site with one dataset that is indexed, and no compute server any more."""
    dataset = site.fill("one", PICTURES)
    site.controller.start()
    site.work()
    site.controller.ingest.start(dataset)
    site.await_state(dataset, DONE)
    site.rest()
    return site


@pytest.fixture(params=["sqlite", "postgresql"])
def elsewhere(
    request: pytest.FixtureRequest, tmp_path: Path, redis_url: str
) -> Iterator[Callable[[], Site]]:
    """Makes another site, whose catalogue is in each of the databases."""
    sites: list[Site] = []
    url = request.getfixturevalue("postgresql")() if request.param == "postgresql" else ""

    def make() -> Site:
        folder = tmp_path / "elsewhere"
        folder.mkdir(exist_ok=True)
        sites.append(Site(folder, redis_url, database_url=url))
        return sites[-1]

    yield make
    for each in sites:
        each.close()


def test_imported_pictures_are_searchable_without_a_compute_server(
    indexed: Site, elsewhere: Callable[[], Site], tmp_path: Path
) -> None:
    file = tmp_path / "export.zip"
    assert "1 datasets, 3 images, 3 vectors" in made(indexed, "export", "--all", file)
    refused = futu(indexed, "export", "one", file)
    assert isinstance(refused.exception, FutuError)
    assert "is there already" in refused.exception.message
    indexed.controller.stop()
    # The pictures are elsewhere, under other names of folders and with other times.
    there = elsewhere()
    folder = there.settings.datasets_dir / "one"
    shutil.copytree(indexed.settings.datasets_dir / "one", folder, copy_function=shutil.copyfile)
    (folder / "2.jpg").rename(folder / "moved.jpg")
    url = there.settings.database_url
    given = ["import", str(file), "--data-dir", str(there.settings.data_dir)]
    environment = {"DATABASE_URL": url, "FUTU_DATASETS_DIR": str(there.settings.datasets_dir)}
    result = CliRunner().invoke(cli, given, env=environment)
    assert "3 of 3 images and 3 of 3 vectors are new" in result.output, result.exception
    dataset = there.controller.dataset("one")
    there.controller.start()
    there.controller.ingest.start(dataset)
    progress = there.await_state(dataset, DONE)
    assert (progress["total"], progress["added"], progress["failed"]) == (3, 0, 0)
    states = {path: state for path, (state, _) in there.files(dataset).items()}
    assert states.pop("2.jpg") == "missing"
    assert set(states.values()) == {READY}
    assert len(there.controller.indexes["similar"].index) == 3
    assert there.controller.queue.depth()["library"] == 0


def test_folder_that_is_not_here_has_to_be_named(indexed: Site, tmp_path: Path) -> None:
    made(indexed, "export", "one", tmp_path / "e.zip")
    shutil.move(indexed.settings.datasets_dir / "one", tmp_path / "pictures")
    given = ["import", str(tmp_path / "e.zip"), "--data-dir", str(tmp_path / "new")]
    environment = {
        "FUTU_DATASETS_DIR": str(tmp_path / "none"),
        "FUTU_IMAGE_ROOTS": str(tmp_path / "pictures"),
    }
    refused = CliRunner().invoke(cli, given, env=environment)
    assert isinstance(refused.exception, FutuError)
    assert "--folder one=FOLDER" in refused.exception.message
    outside = CliRunner().invoke(cli, [*given, "--folder", f"one={tmp_path}"], env=environment)
    assert isinstance(outside.exception, FutuError)
    assert "outside the configured image roots" in outside.exception.message
    here = ["--folder", f"one={tmp_path / 'pictures'}"]
    result = CliRunner().invoke(cli, [*given, *here], env=environment)
    assert "3 of 3 images" in result.output, result.exception


def test_restored_catalogue_is_searched_with_an_index_of_its_own(
    indexed: Site, tmp_path: Path
) -> None:
    file = tmp_path / "backup"
    assert "3 images, 3 vectors" in made(indexed, "backup", file)
    indexed.work()
    for name, number in (("one", 8), ("two", 9)):
        dataset = indexed.fill(name, {"later.jpg": jpeg(number, (40, 30))})
        indexed.controller.ingest.start(dataset)
        indexed.await_state(dataset, DONE)
    made(indexed, "export", "two", tmp_path / "two.zip")
    refused = futu(indexed, "restore", file, "--force")
    assert isinstance(refused.exception, FutuError)
    assert "Another controller is using the data directory" in refused.exception.message
    indexed.rest()
    indexed.controller.stop()
    output = made(indexed, "restore", file, "--force")
    assert "The replaced one is" in output
    # A vector gets the id that another one had, which the saved index has.
    made(indexed, "import", tmp_path / "two.zip")
    indexed.next_controller()
    indexed.controller.start()
    live = indexed.controller.indexes["similar"]
    dataset = indexed.controller.dataset("two")
    ids = indexed.controller.catalogue.searchable_vector_ids(live.model_id, [dataset.id])
    ((_, vectors),) = indexed.controller.catalogue.vectors(ids.tolist())
    found, cosines = live.index.search(vectors[0].astype("f4"), 1)
    assert len(live.index) == 4
    assert found.tolist() == ids.tolist()
    assert cosines[0] > 0.99
