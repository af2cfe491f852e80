"""Descriptions of which only words of imaging stay: the Clean Descriptors Option of PS3.15 (E.3.5).

This module owns the vocabulary. A word that is not in it goes, whatever it says: a name cannot be told from a word that
nobody thought of, so only known words are let through.
"""

from __future__ import annotations

import re

_WORDS = frozenset(
    re.findall(
        r"\S+",
        """
        a abdomen acquisition adc angio angiography ap arterial asl ax axial b b0 b1000 b800 blade
        body bold bolus bone brain bravo breast c ce cerebral cervical chest ciss contrast cor
        coronal ct cube dark delay delayed dengan diff diffusion dixon dl dti dual dwi dynamic echo
        enhanced ep ep2d epi fast fat field fiesta fl2d fl3d flair flash fluid fov fr frfse fs fse
        fspgr gad gadolinium gd ge gradient grappa gre head hemo high hires hr imaging inversion iso
        isotropic kepala km knee kontras large lava left loc local localizer lumbar med mip mp2rage
        mpr mprage mr mra mri mrv native navi no non oblique of off orbit orbits otak pc pd pelvis
        perf perfusion phase pituitari pituitary plain post pre propeller proton qc radial recon
        reformat res resolve right routine s sag sagittal sat saturation scout se sella sense
        sequence series short skull slice slices small space spair spgr spin spine spir star std
        stealth stir study suscept susceptibility swan swi t t1 t1w t2 t2star t2w tanpa te tfe the
        thick thin thoracic ti time tir tirm tof tr tra trace tracew transversal transverse tse
        tulang tumor tumour turbo unenhanced vat venous vibe view vista vol volume volumetric w
        water wb weighted whole wip with without
        """,
    )
)
_WORD = re.compile(r"[A-Za-z]+[0-9]?[A-Za-z]*\*?|[23][dD]|[+-]\s?[cC]\b|\b[cC]\+")
_SINGLE_SIGNS = frozenset({"+c", "-c", "c+", "2d", "3d"})


def clean(text: str) -> str:
    """Keep known words of a description, in their order; what is left may be empty.

    Args:
        text: As the file says it.
    """
    kept = []
    for found in _WORD.findall(text.replace("_", " ")):
        word = found.replace(" ", "")
        if word.casefold() in _SINGLE_SIGNS or word.rstrip("*").casefold() in _WORDS:
            kept.append(word)
    return " ".join(kept)[:64]
