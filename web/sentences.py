"""The plain sentence behind a machine-readable code: why a file was not used, a slice or a job failed, a job waits.

Owns the English templates of the codes that are not `imaging.outcomes.Reason`. Pages translate the template and then
fill it in; the API sends it filled in, in English, beside the code.
"""

from collections.abc import Mapping
from typing import Any

from imaging.outcomes import SENTENCES, Reason

FURTHER: Mapping[str, str] = {
    "sent_before": "These bytes were sent before and are analysed once; the result is shown with the earlier slice.",
    "uid_conflict": "Another file with the same identifier but other content was received; both are analysed.",
    "study_deleted": "The study to which this file belonged was deleted for good.",
    "plane_not_trained": "Plane %(plane)s: not classified by this model, which was not trained on it.",
    "scout": "Localizer: a scout picture, not classified by this model.",
    "series_not_chosen": "Its series was not chosen for classification.",
    "blob_missing": "The stored file is missing on the server. Tell the administrator; the file must be sent again.",
    "pixels_unusable": "The picture holds nothing that can be analysed, for example one grey value everywhere.",
    "worker_lost": "The program that analysed this was ended several times while doing so. Try again; if it happens "
    "again, the picture itself may be the cause.",
    "attempt_failed": "The analysis failed. It was tried again and failed each time; try again later.",
    "poison": "The analysis failed on every attempt, always on this picture. Try again later, or look at the file.",
    "every_slice_failed": "No slice of this job could be analysed. The reason stands beside each slice.",
    "no_usable_slice": "None of the files holds a slice that can be analysed. The reason stands beside each file.",
    "disk_full": "The server's disk is full. Tell the administrator, then try again.",
    "database_unavailable": "The database could not be reached for a long time. Try again.",
    "storage_unavailable": "The file store could not be reached for a long time. Try again.",
    "no_model": "No model was ready for a long time. Tell the administrator, then try again.",
    "diverged": "The training diverged: its loss was no longer a finite number. %(text)s",
    "out_of_memory": "The training machine's memory did not suffice. Use a smaller batch or picture size, another "
    "network, or fewer training workers at a time.",
    "weights_missing": "The weights from which this run starts are missing. %(text)s",
    "storage": "The training machine could not read or write a file. %(text)s",
    "refused": "The run does not fit its data, or the state that it left. %(text)s",
    "scenario_outdated": "This version of the program reads the scenario in another way; begin a new sweep. %(text)s",
    "dataset_missing": "The data set was deleted, or is not ready.",
    "dataset_blob_missing": "A picture of the data set is missing or damaged on the server. Tell the administrator; "
    "the data set must be registered again.",
    "artefact_missing": "The artefact from which this run starts is not in the store any more.",
    "run_worker_lost": "The program that trained this was ended several times without getting one epoch further. Too "
    "little memory is the usual cause: use a smaller batch, or try again.",
    "run_failed": "The training failed on every attempt. The log of the training worker says where.",
    "no_files": "The submission held no files.",
    "no_tensorflow": "This needs TensorFlow, which is not installed where the registry worker runs. An administrator "
    "can install it there with `make environment-train`; then ask again.",
    "export_failed": "The run could not be made into a model. %(says)s",
    "artefact_unusable": "The file is not a model artefact that can be used. %(says)s",
    "weights_unusable": "The weights do not fit what was stated. %(says)s",
    "model_missing": "The file of a model is missing in the store. Import it again, or restore it from a backup.",
    "model_altered": "The file of a model was altered. Restore it from a backup.",
    "model_unusable": "A model cannot be loaded by this version of the software.",
    "comparison_empty": "None of the slices to compare on is in the data set any more.",
    "peer_unreachable": "The archive cannot be reached: nothing answers at its address.",
    "peer_busy": "The archive takes no connection at the moment.",
    "peer_full": "The archive has no room left. Tell whoever runs it, then send again.",
    "peer_silent": "The archive did not answer in time, or broke the connection.",
    "peer_gone": "The archive was removed from the list. Enter it again, then ask anew.",
    "association_rejected": "The archive rejects the connection (%(says)s). It has to know the AE title %(ours)s of "
    "this system with its address, and its own AE title has to be %(theirs)s.",
    "no_common_context": "The archive accepts none of the objects or services that are needed (no common presentation "
    "context).",
    "peer_no_echo": "The archive answers but does not support C-ECHO.",
    "certificate_unusable": "A certificate file of the settings cannot be used (%(says)s). See "
    "NEUROSIGHT_PEER_CA_FILE, NEUROSIGHT_PEER_CERTIFICATE_FILE and NEUROSIGHT_PEER_KEY_FILE.",
    "certificate_not_trusted": "The archive's certificate is not trusted. Name the authority that issued it in "
    "NEUROSIGHT_PEER_CA_FILE.",
    "secret_missing": "The secret %(secret)s is not in the settings. Enter it in NEUROSIGHT_PEER_SECRETS and start the "
    "system again.",
    "peer_denied": "The archive refuses access (HTTP %(status)s). Check the secret of this archive.",
    "peer_no_service": "There is no DICOMweb service at this address (HTTP %(status)s).",
    "objects_refused": "The archive refused %(refused)s of %(objects)s objects; its answer stands beside each.",
    "sending_cancelled": "Stopped by a user. What the archive had received by then, it keeps.",
    "exchange_failed": "The exchange with the archive failed on every attempt. The log of the transfer worker says "
    "where.",
    "number_not_found": "The archive knows no study under this accession number.",
    "study_empty": "The archive knows the study but lists no instance of it.",
    "search_refused": "The archive refused the search (%(status)s).",
    "instances_missing": "Fetched %(fetched)s of %(expected)s instances that the archive lists; these are analysed. "
    "Try again for the others.",
    "nothing_fetched": "The archive lists instances but hands none of them over.",
    "requester_gone": "Whoever asked for this has no account any more.",
    "retrieval_cancelled": "Stopped by a user before everything was fetched.",
    "study_too_many_files": "The study has more instances than the %(limit)s files that one submission may have.",
    "study_too_large": "The study is larger than the %(limit)s bytes that one submission may have.",
    "off_peak": "Waits for off-peak hours.",
    "no_results": "There are no results of this study any more.",
    "withdrawn": "The model behind these results was withdrawn; they do not go out as DICOM.",
    "too_many_slices": "The study has %(slices)s slices with results; at most %(limit)s go into one DICOM export.",
    "waiting_for_worker": "Received and safely stored. No worker is running at the moment; it starts by itself when "
    "one is back.",
    "waiting_for_model": "Received and safely stored. No model is in service yet; it starts by itself when one is.",
    "waiting_for_turn": "Received and safely stored. It waits for its turn.",
}
UNKNOWN = "The code of the reason is %(code)s."


def template_of(code: str, detail: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
    """The English template of a code, and what fills it.

    Args:
        code: A value of `Reason`, or one of `FURTHER`; empty gives an empty sentence.
        detail: Facts that came with it.

    Returns:
        (template with `%(name)s` places, values for exactly these places).
    """
    if not code:
        return "", {}
    values = dict(detail or {})
    try:
        template = SENTENCES[Reason(code)]
    except (ValueError, KeyError):
        template = FURTHER.get(code, UNKNOWN)
        values["code"] = code
    if "%(" not in template:
        return template, {}
    try:
        template % values
    except (KeyError, TypeError, ValueError):
        return UNKNOWN, {"code": code}
    return template, values


def english(code: str, detail: Mapping[str, Any] | None = None) -> str:
    """The English sentence of a code."""
    template, values = template_of(code, detail)
    return template % values if values else template
