"""Reading a command's flags; `--config` comes from ml_collections, with errors in one line."""

import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from absl import flags
from ml_collections import ConfigDict, config_flags

from jax_elastic.errors import UsageError
from jax_elastic.subnet import Subnet
from jax_elastic.training.config import KIND, check_keys
from jax_elastic.training.experiment import Experiment, by_phase_name, from_config, to_config

Number = TypeVar("Number", int, float)

PROGRAM = "jax-elastic"
CONFIG_HELP = (
    "--config=FILE.py[:VARIANT]: the experiment; --config.KEY=VALUE changes one value, "
    "for example --config.phases.joint.epochs=20"
)


def parse(
    argv: Sequence[str], define: Callable[[flags.FlagValues], None], about: str
) -> flags.FlagValues:
    """Reads flags into values of their own, so that no global state is touched.

    Args:
      argv: the command's arguments.
      define: defines its flags.
      about: what `--help` says first.

    Raises:
      UsageError: an unknown flag, a wrong value, or an argument that is no flag.
      SystemExit: after `--help`.
    """
    values, rest = _parse(argv, define, about)
    if rest:
        raise UsageError(f"{rest[0]!r} is not a flag", "flags look like --name=value")
    return values


def parse_with_names(
    argv: Sequence[str], define: Callable[[flags.FlagValues], None], about: str, called: str
) -> tuple[flags.FlagValues, list[str]]:
    """As `parse`, for a command that also takes arguments that are no flags.

    Args:
      argv: the command's arguments; flags may stand between the others, and none after ``--``.
      define: defines its flags.
      about: what `--help` says first; tells what `called` is.
      called: what the other arguments are called, e.g. ``IMAGES``.

    Returns:
      The flags, and the other arguments, at least one.

    Raises:
      UsageError: an unknown flag, a wrong value, or no other argument.
      SystemExit: after `--help`.
    """
    values, rest = _parse(argv, define, about)
    if not rest:
        raise UsageError(f"{called} are missing", next_step="--help tells what they can be")
    return values, rest


def _parse(
    argv: Sequence[str], define: Callable[[flags.FlagValues], None], about: str
) -> tuple[flags.FlagValues, list[str]]:
    values = flags.FlagValues()
    values.set_gnu_getopt(True)  # flags may follow other arguments
    define(values)
    if "--help" in argv or "-h" in argv:
        print(about + "\n" + values.get_help())
        sys.exit(0)
    try:
        rest: list[str] = values([PROGRAM, *argv])[1:]
    except flags.Error as error:
        raise UsageError(str(error), next_step="--help lists the flags") from None
    return values, rest


def split_config(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Parts `--config...` arguments, made ``--config.key=value``, from the others."""
    config, others = [], []
    waiting = list(argv)
    while waiting:
        argument = waiting.pop(0)
        if argument == "--config" or argument.startswith(("--config=", "--config.")):
            if "=" not in argument:
                if not waiting:
                    raise UsageError(f"{argument} has no value", "for example " + CONFIG_HELP)
                argument += "=" + waiting.pop(0)
            config.append(argument)
        else:
            others.append(argument)
    return config, others


def read_config(argv: Sequence[str], default: str) -> tuple[Experiment, str]:
    """The experiment of `--config` arguments, and the config's name (file and variant).

    Any key of the resolved config can be changed, also one that the file leaves at its default.
    Where a key of the network aims it at an operating point, the file's `subnet` gives way.

    Args:
      argv: only `--config...` arguments.
      default: file to read without ``--config=``.

    Raises:
      UsageError: no such file, an unknown key or variant, or a wrong type or value.
    """
    paths = [argument for argument in argv if argument.startswith("--config=")]
    overrides = [argument for argument in argv if not argument.startswith("--config=")]
    path = paths[-1].partition("=")[2] if paths else default
    resolved = by_phase_name(to_config(from_config(_read_file(path))))
    keys = [override.partition("=")[0].removeprefix("--config.") for override in overrides]
    for key in keys:
        _check_path(key, resolved)
    values = flags.FlagValues()
    argument_list = [PROGRAM, *overrides]
    try:
        config_flags.DEFINE_config_dict(
            "config", _ordered(resolved), flag_values=values, sys_argv=argument_list
        )
        values(argument_list)
    except (flags.Error, TypeError, ValueError) as error:
        told = " ".join(map(str, error.args))
        raise UsageError(f"wrong value for a config key: {told}") from None
    holder: Any = values["config"].value
    changed: dict[str, Any] = holder.to_dict()
    changed["phases"] = list(changed["phases"].values())
    file, _, variant = path.partition(":")
    name = Path(file).stem + (f"-{variant.replace(',', '-')}" if variant else "")
    if "subnet" not in keys:
        own = from_config({**changed, "subnet": ""})
        if own.subnet:
            return own, name
    return from_config(changed), name


def parse_subnets(text: str) -> list[Subnet]:
    """Operating points of a `--subnet` flag: several are separated by ``;``."""
    return [Subnet.parse(part) for part in text.split(";") if part.strip()]


def parse_budgets(items: Sequence[str] | None) -> list[float]:
    """Budgets of a `--budgets` flag; none where it was not given."""
    allowed = "shares of the blocks, for example --budgets=0.3,0.6"
    return [] if items is None else parse_numbers("budgets", items or [""], float, allowed)


def parse_numbers(
    name: str, items: Sequence[str], kind: type[Number], allowed: str
) -> list[Number]:
    """The numbers of a list flag.

    Args:
      name: of the flag.
      items: their texts.
      kind: int or float.
      allowed: what the error says would have been right.

    Raises:
      UsageError: one is no number of that kind.
    """
    try:
        return [kind(item) for item in items]
    except ValueError:
        numbers = "whole numbers" if kind is int else "numbers"
        given = f"--{name}={','.join(items)}"
        raise UsageError(f"{given} is not a list of {numbers}", allowed) from None


def define_checkpoint(values: flags.FlagValues) -> None:
    """Defines `--checkpoint`, of commands that load a workdir."""
    flags.DEFINE_enum(
        "checkpoint",
        "newest",
        ["newest", "best"],
        "the newest, or the best of the validations",
        flag_values=values,
    )


def define_bank_of(values: flags.FlagValues) -> None:
    """Defines `--bank_of`, of commands that can run with the banks of another operating point."""
    flags.DEFINE_string(
        "bank_of",
        "",
        "UNSAFE: BN banks that were never trained are filled with those of this operating point; "
        "what comes out is no property of the network, and rows say that it was done",
        flag_values=values,
    )


def _read_file(path: str) -> dict[str, Any]:
    """What `get_config(variant)` of ``FILE.py[:VARIANT]`` returns, as plain values."""
    file, _, variant = path.partition(":")
    if not Path(file).is_file():
        raise UsageError(
            f"there is no config file {file}",
            next_step="run this in the repository, or give --config=FILE.py",
        )
    try:
        # A config is a program of the user's: whatever it raises is told in one line.
        config = runpy.run_path(file)["get_config"](variant)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"config {path} failed: {type(error).__name__}: {error}") from error
    if not isinstance(config, ConfigDict):
        raise UsageError(f"get_config of {file} gave a {type(config).__name__}", "a ConfigDict")
    found: dict[str, Any] = config.to_dict()
    return found


def _check_path(path: str, config: Mapping[str, Any]) -> None:
    """Raises a `UsageError` that names the nearest key where a dotted path leads nowhere."""
    where, here = "config", config
    for name in path.split("."):
        if name == KIND:
            raise UsageError(
                f"{where}.{KIND} cannot be changed by a flag: the other keys of the group go by it",
                next_step="name the variant that has it, --config=FILE.py:VARIANT, or write the "
                "group in a config file",
            )
        if not isinstance(here, Mapping):
            raise UsageError(f"{where} is a value and has no key {name!r}")
        check_keys([name], here, where)
        where, here = f"{where}.{name}", here[name]
    if isinstance(here, Mapping):
        raise UsageError(f"{where} is a group of keys", "change one of " + ", ".join(here))


def _ordered(values: Mapping[str, Any]) -> ConfigDict:
    """A ConfigDict that keeps the order of the keys: that of the phases has a meaning."""
    config = ConfigDict(sort_keys=False)
    for key, value in values.items():
        plain = tuple(value) if isinstance(value, list) else value
        config[key] = _ordered(value) if isinstance(value, Mapping) else plain
    return config
