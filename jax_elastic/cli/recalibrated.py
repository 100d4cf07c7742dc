"""What every command knows of a workdir that `recalibrate` wrote: it is for one point alone."""

from collections.abc import Sequence
from pathlib import Path

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.rows import Row
from jax_elastic.subnet import Subnet
from jax_elastic.training.checkpoint import Meta


def only_point(meta: Meta) -> Subnet | None:
    """The operating point that a workdir is for; None where it is for all."""
    row = meta.get("recalibrated")
    return None if row is None else Subnet.parse(row["subnet"])


def own_points(workdir: Path, meta: Meta, asked: Sequence[Subnet]) -> list[Subnet]:
    """The operating points to run of a workdir: those asked for, else the only one that it has.

    Where points share BN layers the doors cannot tell that statistics are another's (law 4).

    Args:
      workdir: for the error.
      meta: of its checkpoint.
      asked: points that were named.

    Returns:
      At least one where the workdir is for one alone; else `asked`.

    Raises:
      UsageError: another point is asked for than the workdir is for.
    """
    only = only_point(meta)
    if only is None:
        return list(asked)
    for point in asked:
        if point != only:
            source = meta["recalibrated"]["workdir"]
            raise UsageError(
                f"{workdir} was recalibrated for {only} alone, not for {point}",
                next_step=f"take the one that it comes from: --workdir={source}",
            )
    return [only]


def facts(meta: Meta) -> Row:
    """What the rows of a recalibrated workdir say of it; of any other nothing."""
    row = meta.get("recalibrated")
    if row is None:
        return {}
    return {
        "recalibrated": row["subnet"],
        "recalibrated_images": row["images"],
        "recalibrated_budget": row["budget"],
        "bank_of": row["bank_of"],
        "estimated_before": row["estimated_before"],
    }


def cautions_of(rows: Sequence[Row]) -> list[str]:
    """`cautions` of rows that `eval` wrote, with points whose banks it borrowed; each once.

    Args:
      rows: of one workdir or file.
    """
    lines: list[str] = []
    borrowed: dict[str, list[str]] = {}
    for row in rows:
        if "recalibrated" in row:
            lines += cautions(
                {
                    "subnet": row["recalibrated"],
                    "budget": row["recalibrated_budget"],
                    "bank_of": row["bank_of"],
                    "estimated_before": row["estimated_before"],
                }
            )
        elif row.get("bank_of"):
            borrowed.setdefault(row["bank_of"], []).append(row["subnet"])
    lines += [borrowed_line(points, bank) for bank, points in borrowed.items()]
    return list(dict.fromkeys(lines))


def borrowed_line(points: Sequence[str], bank_of: str) -> str:
    """What to know of points that were evaluated with another's banks."""
    names = ", ".join(dict.fromkeys(points))  # a point has several rows where budgets are asked for
    return f"UNSAFE: {names} with banks of {bank_of}, never trained for it"


def cautions(row: Row) -> list[str]:
    """What to know of the numbers of a recalibrated workdir before they are compared.

    Args:
      row: of `recalibrate`; empty for any other workdir.
    """
    lines = []
    if row and row["budget"] is not None:
        lines += [f"BN statistics are those of budget {row['budget']:g}, whatever is asked for"]
    if row and row["bank_of"]:
        lines += [
            f"UNSAFE: parameters of the BN banks of {row['subnet']} are those of {row['bank_of']}"
        ]
    elif row and not row["estimated_before"]:
        lines += [
            f"BN layers that {row['subnet']} reads were never trained, so their parameters are "
            "those of the start; recalibrate --bank_of takes another point's"
        ]
    return lines
