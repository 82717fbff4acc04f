"""The noise of many blocks at once, by the product's own `Scale`: for the golden vectors and the benchmark."""

from collections.abc import Sequence

from canary.core.detect.noise import Block, Scale


def dispersion(blocks: Sequence[Block], looks_per_scale: Sequence[int]) -> float:
    """Return the largest significant dispersion of the blocks over several scales, at least 1.

    An unfinished block at the end of a scale is left out. The answer is 1, too, where there are too few blocks.
    """
    phi = 1.0
    for looks in looks_per_scale:
        scale = Scale()
        for index, block in enumerate(blocks, start=1):
            scale = scale.add(block, 1.0)
            if index % looks == 0:
                scale = scale.close()
        phi = max(phi, scale.phi)
    return phi
