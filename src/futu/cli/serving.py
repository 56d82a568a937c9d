"""The models of datasets: futu models use, futu models prune."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click
from rich.console import Console

from futu.cli.builds import await_end
from futu.client import Client, ModelChange
from futu.models.spec import QUESTIONS


@click.command()
@click.argument("dataset")
@click.argument("model", required=False)
@click.option("--back", is_flag=True, help="Drop the change, or return to the former model.")
@click.option(
    "--question",
    type=click.Choice(QUESTIONS),
    default="similar",
    show_default=True,
    help="With --back: which. A model has its own.",
)
@click.option("--no-wait", is_flag=True, help="Return at once; 'futu datasets' shows the progress.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def use(
    server: str | None,
    dataset: str,
    model: str | None,
    back: bool,
    question: str,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Let MODEL answer its question for DATASET, when all its vectors are made.

    Until then the present model is searched as before. The same command again, or 'futu index
    DATASET', goes on where a change was cut short; 'futu index DATASET --cancel' stops its build.

    \b
    futu models use holiday efficientnet-lite2    build, then swap
    futu models use holiday --back                at once: the former vectors are kept
    futu models prune                             remove the former vectors

    The exit code is 1 when MODEL does not serve in the end.
    """  # noqa: D301 - click wants the character itself
    if back == (model is not None):
        raise click.UsageError("Give the name of a model (futu models list), or --back.")
    console = Console(stderr=True)
    with Client(server) as client:
        if model is not None:
            (change,) = client.use_model([dataset], model)
        else:
            (change,) = client.use_former_model([dataset], question)
        console.print(change.message, markup=False, soft_wrap=True)
        coming, message = change.models.coming, change.message
        if coming is not None and not no_wait:
            ended = await_end(client, change.dataset, console)
            if ended is not None:
                message = ended.message
                console.print(message, markup=False, soft_wrap=True)
            change = _now(client, change, message)
    if as_json:
        click.echo(json.dumps(asdict(change), ensure_ascii=False))
    if coming is not None and not no_wait and change.models.serving.model_id != coming.model_id:
        sys.exit(1)


def _now(client: Client, change: ModelChange, message: str) -> ModelChange:
    """The same after the build."""
    (found,) = (d for d in client.datasets() if d.name == change.dataset)
    models = found.models[change.question]
    return ModelChange(change.dataset, change.question, models, message)


@click.command()
@click.argument("datasets", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def prune(server: str | None, datasets: tuple[str, ...], as_json: bool) -> None:
    """Remove the vectors of former models: of all datasets, or of these.

    There is no way back to these models afterwards but to make their vectors again. What another
    dataset still uses stays. The catalogue's file does not shrink; the room is used again.
    """
    with Client(server) as client:
        pruned = client.prune_models(list(datasets) or None)
    if as_json:
        click.echo(json.dumps(asdict(pruned), ensure_ascii=False))
        return
    gone = f"; nothing is left of {', '.join(pruned.model_ids)}" if pruned.model_ids else ""
    click.echo(f"{pruned.vectors} vectors removed, {pruned.bytes / 1e6:.1f} MB{gone}.")
