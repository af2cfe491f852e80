"""Names of a model's variables that do not depend on what else the process has built.

Owns: `variables_by_path`. Keras numbers layers without a name of their own (the shortcuts of Xception) through the
whole process: the second Xception has `conv2d_4` where the first had `conv2d`. Weights saved from the one would not fit
the other, so such layers are counted anew within each model. Refuses: everything else about variables.
"""

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import keras

_UNNAMED: Final = re.compile(r"(conv2d|depthwise_conv2d|separable_conv2d|batch_normalization|dense)(?:_(\d+))?")


def variables_by_path(model: "keras.Model") -> dict[str, Any]:
    """The model's variables by path, as they are called in the first model of a process.

    Args:
        model: Any Keras model.

    Returns:
        `layer/variable` -> Keras variable, in the model's order; without the states of random generators, which are no
        weights.
    """
    variables = [v for v in model.variables if "seed_generator" not in v.path]
    numbers: dict[str, set[int]] = {}
    for variable in variables:
        if found := _UNNAMED.fullmatch(variable.path.partition("/")[0]):
            numbers.setdefault(found[1], set()).add(int(found[2] or 0))
    order = {kind: sorted(of_kind) for kind, of_kind in numbers.items()}

    def path_of(variable: Any) -> str:
        layer, slash, rest = variable.path.partition("/")
        if found := _UNNAMED.fullmatch(layer):
            place = order[found[1]].index(int(found[2] or 0))
            layer = f"{found[1]}_{place}" if place else found[1]
        return f"{layer}{slash}{rest}"

    return {path_of(variable): variable for variable in variables}
