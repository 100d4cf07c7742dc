"""The smallest run of the command line that there can be."""

DIGITS = "configs/urnet_digits.py"
TINY = (
    "--config.network.backbone.stage_sizes=(3,)",
    "--config.network.backbone.width=4",
    "--config.phases.base.epochs=0.1",
    "--config.phases.gates.epochs=0.1",
    "--config.phases.joint.epochs=0.1",
    "--config.phases.settle.epochs=0.1",
)
