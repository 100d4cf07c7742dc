"""Times of the steps of anytime networks: `python -m benchmarks.anytime_step [--rounds=9]`.

I-ResNeXt, 29 layers for CIFAR: the step of all K sub-networks, in every form, against the steps of
the K as networks by themselves, one after the other. IS-ResNeXt, of as many layers: its step, whose
one pass has all exits, against that of a plain ResNeXt of the same widths, against those of its
sub-networks by themselves, and against a `sliced` I-ResNeXt of the same widths. A step is a
dispatch of one step as training runs it, on images that are not augmented.

What compiling and holding a step takes: `benchmarks.steps`.
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import jax
from absl import flags

from benchmarks.command import run
from benchmarks.provenance import facts
from benchmarks.steps import TABLE, Case, measure
from benchmarks.timing import Ratio, load
from jax_elastic.backbones.isresnext import ISResNeXt as Architecture
from jax_elastic.backbones.isresnext import Mixing
from jax_elastic.backbones.resnext import ResNeXt
from jax_elastic.cli.flags import parse
from jax_elastic.cli.platform import configure
from jax_elastic.cli.platform import define as define_platform
from jax_elastic.data.data_config import DataConfig
from jax_elastic.elastic.anytime.iresnext import IResNeXt
from jax_elastic.elastic.anytime.isresnext import ISResNeXt
from jax_elastic.elastic.anytime.one_pass import Answers
from jax_elastic.elastic.family import Array, BNMode, Family, Form, PyTree, Variables
from jax_elastic.elastic.plain import Plain
from jax_elastic.evaluation.rows import write_json
from jax_elastic.evaluation.tables import format_table
from jax_elastic.training.experiment import Experiment, Settings
from jax_elastic.training.form import FormChoice
from jax_elastic.training.phases import Phase

BATCH = 32
DATA = DataConfig("cifar10", (32, 32, 3), pad=0, mean=(0.5,) * 3, std=(0.25,) * 3)
FORMS: tuple[Form, ...] = ("sliced", "host", "scan_switch", "scan", "vmap")
WIDE = ResNeXt()  # of the ablation: 29 layers, width 64, 8 branches of 4 channels
TRIANGULAR = Architecture((3, 3, 3))  # that of CIFAR, with fewer blocks

MOST = 1.05  # of the steps of the K networks, and of the plain network's step
MOST_OF_PASSES = 0.30

APART, PLAIN, SAME_WIDTHS = "K networks", "plain ResNeXt", "I-ResNeXt"


@dataclasses.dataclass(frozen=True)
class LastExit(ISResNeXt):
    """An IS-ResNeXt that answers, and learns, at its last exit alone: one pass for one answer."""

    def answers(
        self, variables: Variables, images: Array, bn: BNMode, exits: tuple[int, ...]
    ) -> tuple[Answers, PyTree]:
        """See `OnePass`."""
        return super().answers(variables, images, bn, (self.exits,))


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""
    values = parse(argv, _define, __doc__ or "")
    configure(values)
    # Or times of compiling would be those of reading; the environment may have named one, too.
    jax.config.update("jax_compilation_cache_dir", None)
    told = {"batch": values.batch_size, "command": _command(argv), **facts()}
    found: list[dict[str, Any]] = []
    for case in cases(values.forms, values.batch_size):
        rows = measure(case, values.rounds)
        found += [{**row, **told, **load()} for row in rows]
        # After each case: compiling them all takes minutes.
        write_json(values.json, "anytime_steps", found)
        print(format_table(rows, TABLE), flush=True)


def _command(argv: Sequence[str]) -> str:
    return " ".join(["python -m benchmarks.anytime_step", *argv])


def cases(forms: Sequence[Form], batch_size: int) -> tuple[Case, ...]:
    """All that is measured."""
    return (
        iresnext(IResNeXt(WIDE, 4), forms, batch_size),
        iresnext(IResNeXt(WIDE, 8), forms, batch_size),
        isresnext(TRIANGULAR, batch_size),
    )


def iresnext(network: IResNeXt, forms: Sequence[Form], batch_size: int) -> Case:
    """An I-ResNeXt's step in some forms, against its sub-networks' own steps.

    The bar is that of the form that training takes here by default.
    """
    K = network.subnetworks
    apart = tuple(experiment(network.thin(k), batch_size) for k in range(1, K + 1))
    runs: dict[str, tuple[Experiment, ...]] = {APART: apart}
    ratios = [Ratio(APART, APART)]
    default = experiment(network, batch_size)
    taken = default.form_in(default.phases[0], jax.default_backend())
    for form in forms:
        runs[form] = (experiment(network, batch_size, form),)
        ratios.append(Ratio(form, APART, MOST if form == taken else None))
    return Case(f"I-ResNeXt, K = {K}", runs, tuple(ratios))


def isresnext(net: Architecture, batch_size: int) -> Case:
    """An IS-ResNeXt's step, by how its first convolutions mix, against three others.

    The bars are those of the default mixing.
    """
    passes = [LastExit(net.first(k)) for k in range(1, net.subfeatures + 1)]
    plain = plain_of(net)
    runs = {
        PLAIN: (experiment(Plain(plain), batch_size),),
        APART: tuple(experiment(network, batch_size) for network in passes),
        SAME_WIDTHS: (experiment(IResNeXt(plain, net.subfeatures), batch_size, "sliced"),),
    }
    ratios = [Ratio(name, PLAIN) for name in runs]
    mixings: tuple[Mixing, ...] = ("masked", "sliced")
    for mixing in mixings:
        own = dataclasses.replace(net, mixing=mixing)
        runs[mixing] = (experiment(ISResNeXt(own), batch_size),)
        barred = own == net
        ratios += [
            Ratio(mixing, PLAIN, MOST if barred else None),
            Ratio(mixing, APART, MOST_OF_PASSES if barred else None),
            Ratio(mixing, SAME_WIDTHS),
        ]
    return Case(f"IS-ResNeXt, K = {net.subfeatures}", runs, tuple(ratios))


def plain_of(net: Architecture) -> ResNeXt:
    """The plain ResNeXt that has an IS-ResNeXt's depth, widths and branches."""
    return ResNeXt(net.stage_sizes, net.width, net.branches, net.branch_width, net.classes[0])


def experiment(network: Family, batch_size: int, form: FormChoice = Settings.form) -> Experiment:
    """The training of a network, with the paper's optimizer."""
    (objective,) = network.objectives
    phase = Phase(
        name="base",
        epochs=1.0,
        objective=objective,
        learning_rate=0.1,
        batch_size=batch_size,
        nesterov=True,
        weight_decay=1e-4,
    )
    return Experiment(network=network, phases=(phase,), data=DATA, form=form)


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_integer("rounds", 9, "of everything", lower_bound=3, flag_values=values)
    flags.DEFINE_multi_enum(
        "forms", list(FORMS), FORMS, "of I-ResNeXt's step; repeated", flag_values=values
    )
    flags.DEFINE_integer("batch_size", BATCH, "images", lower_bound=1, flag_values=values)
    flags.DEFINE_string(
        "json", "docs/results/anytime_step.json", "rows go here", flag_values=values
    )
    define_platform(values)


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
