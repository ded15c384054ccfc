"""The table of encoders: each with the bank and with the last event alone, all with the same options else."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from board.logs import Board
from board.show import Row, Table, difference, head, interval, line, plain, protocol, table_of
from board.systems import Candidate, Entry
from jaxdecay.errors import InputError

ENCODERS: Mapping[str, Mapping[str, Any]] = {
    "identity": {"encoder": "none"},
    "mlp": {"encoder": "mlp"},
    "cnn": {"encoder": "cnn"},
    "gru": {"encoder": "gru"},
    "lstm": {"encoder": "lstm"},
    "transformer": {"encoder": "transformer"},
    "timed-transformer": {"encoder": "transformer", "attention_bias": "both"},
    "hstu": {"encoder": "hstu"},
    "decay-stack": {"encoder": "bank"},
}
"""By the name in the table, what the options of the model say of it."""
READS = ("bank", "last")


def entries(names: Sequence[str], preset: str, train: Mapping[str, Any]) -> list[Entry]:
    """Two systems an encoder, in the order of the table; ``names``: of `ENCODERS`, or all."""
    for name in names:
        if name != "all" and name not in ENCODERS:
            raise InputError(
                f"--encoders {name!r}: there is no such encoder; there are {', '.join(['all', *ENCODERS])}"
            )
    return [
        Entry(
            system(name, read), group="references", grid=(Candidate(),), train=train,
            model={"preset": preset, "read": read, **options},
        )
        for name, options in ENCODERS.items() if name in names or "all" in names
        for read in READS
    ]  # fmt: skip


def system(name: str, read: str) -> str:
    """What the table of systems calls it."""
    return f"{name}, {read}"


REFERENCES = {system(name, "bank"): system(name, "last") for name in ENCODERS}
"""What each is compared with."""


def named(row: Row) -> Row:
    """A row with encoder and read apart."""
    name, _, read = row["system"].rpartition(", ")
    return {**row, "encoder": name, "read": read}


def markdown(board: Board, rows: Sequence[Row]) -> str:
    """One board: how it was judged, how good the encoders are with and without the bank, what they cost, and
    where the bank helps."""
    table = table_of(rows)
    sentence = protocol(board).replace("system minus flagship", "with the bank minus without")
    parts = [f"### {board.log}, {board.protocol}", "", f"{sentence} {terms(rows)}", ""]
    return "\n".join([*parts, *_lines(table), "", *helped(table)]) + "\n"


def terms(rows: Sequence[Row]) -> str:
    """What is the same for all of them, in a sentence."""
    configuration, cores = rows[0]["configuration"], sorted({row["cores"] for row in rows})
    train, features = configuration["train"], configuration["model"]["features"]
    return (
        f"Vectors of {features} numbers, at most {train['epochs']} epochs of the {train['loss']} loss, on "
        f"{' or '.join(map(str, cores))} {'core' if cores == [1] else 'cores'}; where two numbers stand in a "
        "cell, the first is with the bank."
    )


def _lines(table: Table) -> Iterator[str]:
    yield from head(
        [
            "encoder", "NDCG@10, bank", "NDCG@10, last event", "bank minus last", "seconds an epoch",
            "epochs", "peak MiB", "parameters",
        ]
    )  # fmt: skip
    for name in ENCODERS:
        bank, last = found = [table.get(system(name, read), {}).get("ndcg@10") for read in READS]
        if any(found):
            facts = [("epoch_seconds", 1), ("epochs", 0), ("peak_mib", 0), ("parameters", 0)]
            both = [_both(found, key, places) for key, places in facts]
            yield line([name, interval(bank), interval(last), difference(bank), *both])


def _both(rows: Sequence[Row | None], key: str, places: int) -> str:
    """With the bank and without, where it is not the same."""
    cells = ["" if row is None else plain(row[key], places) for row in rows]
    return " / ".join(dict.fromkeys(filter(None, cells)))


def helped(table: Table) -> Iterator[str]:
    """Whom the bank helps, by the interval of the difference, and whom it does not."""
    words: dict[str, list[str]] = {"helps": [], "makes no sure difference to": [], "hurts": []}
    for name in ENCODERS:
        row = table.get(system(name, "bank"), {}).get("ndcg@10")
        if row and row["difference"] is not None:
            sign = (row["difference_low"] > 0) - (row["difference_high"] < 0)
            words[list(words)[1 - sign]].append(name)
    told = [f"{verb} {', '.join(names)}" for verb, names in words.items() if names]
    if told:
        yield f"The bank {'; it '.join(told)}."
