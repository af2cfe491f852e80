"""Makes an artefact of a finished run and registers it.

Owns the way: weights from their blob, a few slices of the validation part (on them the exported graph is compared with
the network), the export, the registration. TensorFlow is imported here and nowhere before. Refuses to train or to
score anything: the numbers are those of the run's report.
"""

import tempfile
from pathlib import Path

import structlog

from db.queries import claims
from db.queries import imports as rows
from db.queries.claims import Claim
from worker import datasets, registering
from worker.context import Context
from worker.faults import Fatal
from worker.lease import Lease
from worker.without_tensorflow import HOW_TO_INSTALL, is_installed

log = structlog.get_logger(__name__)


def run(context: Context, claim: Claim, lease: Lease) -> None:
    """Does a claimed export from beginning to end.

    Raises:
        LeaseLost: Somebody else has it; nothing was written.
        Exception: Whatever `worker.work` is to judge.
    """
    run_id = rows.named(claim, "run_id")
    with context.database.read() as session:
        wanted = rows.run_to_export(session, run_id)
    if wanted is None:
        context.write(lease, lambda session: claims.finish(session, claim, note="gone"))
        return
    if not is_installed():
        context.write(lease, lambda session: rows.export_failed(session, claim, "no_tensorflow", {}))
        log.warning("no_tensorflow", mend=HOW_TO_INSTALL)
        return
    from inference import weights
    from inference.errors import InferenceError
    from inference.networks import NetworkError
    from training.datasets import read_dataset
    from training.errors import TrainingError
    from training.scenario import Scenario
    from training.shipping import check_images, ship_run

    folder = context.settings.training_dir / "datasets"
    with tempfile.TemporaryDirectory(prefix="export-") as name:
        try:
            scenario = Scenario.from_record(wanted.scenario)
            images = None
            try:
                data = read_dataset(datasets.materialise(context, wanted.dataset_id, folder))
                images = check_images(scenario, data, wanted.report)
            except Fatal as error:
                # A lost picture is no reason against the artefact: the graphs are compared on others.
                log.warning("exported_without_data", code=error.code)
            lease.check()
            arrays = weights.from_bytes(context.blobs.read(wanted.weights_sha256))
            path = Path(name) / "run.neurosight"
            ship_run(path, scenario, arrays, wanted.report, images)
        except (TrainingError, InferenceError, NetworkError, KeyError) as error:
            says = {"says": str(error)[:600]}
            context.write(lease, lambda session: rows.export_failed(session, claim, "export_failed", says))
            log.error("export_failed", error=type(error).__name__)
            return
        lease.check()
        facts = registering.keep(path, f"{wanted.sweep_name}: {wanted.name}", context.blobs)
    checkpoint = context.write(lease, lambda session: rows.export_done(session, claim, run_id, facts))
    log.info("run_exported", run_id=str(run_id), checkpoint_id=str(checkpoint.id), digest=facts.digest)
