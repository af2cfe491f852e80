"""A worker that is killed while it sends results to a slow archive: another one goes on behind the last answer."""

from pathlib import Path

from sqlalchemy import func, select

from config.queues import QUEUES
from config.settings import Settings
from db.checkpoints import Checkpoint
from db.exchange import Content, ObjectState, Peer, PeerKind, Sending, SentObject
from db.jobs import WorkItem
from db.queries import sendings
from db.session import Database
from db.states import RequestState
from db.studies import Study
from tests.archives import store_scp
from tests.integration.web.test_dicom_export import slices_of_a_patient
from tests.servers import BrokerServer
from tests.starter import Starter
from tests.work_rig import context_for, models_folder, promote_tiny, submit, wait_for
from tests.worker_fleet import DISPATCHER, Fleet
from worker.work import turn


def test_a_killed_transfer_worker_costs_no_object(
    sqlite_url: str, broker: BrokerServer, tmp_path: Path, starter: Starter
) -> None:
    settings = Settings(
        var_dir=tmp_path / "var",
        database_url=sqlite_url,
        broker_url=broker.url,
        models_dir=models_folder(tmp_path / "models"),
        resend_after_s=2.0,
        housekeeping_period_s=0.3,
    )
    promote_tiny(settings)
    database = Database(sqlite_url)
    submit(database, settings, slices_of_a_patient(3))
    context = context_for(settings, QUEUES)
    while turn(context):
        pass
    context.close()

    def stored() -> int:
        with database.read() as session:
            count = select(func.count()).select_from(SentObject).where(SentObject.state == ObjectState.STORED)
            return session.scalar(count) or 0

    fleet = Fleet(settings, tmp_path / "logs", starter=starter)
    with fleet, store_scp(tmp_path, "--sleep-after", "1") as archive:
        with database.write() as session:
            peer = Peer(name="slow", kind=PeerKind.DIMSE, ae_title="STORESCP", host="127.0.0.1", port=archive.port)
            session.add(peer)
            session.flush()
            sending, item = sendings.request(
                session,
                study_id=session.scalars(select(Study.id)).one(),
                peer=peer,
                checkpoint=session.scalars(select(Checkpoint)).one(),
                content=Content.BOTH,
                by=None,
                max_attempts=4,
            )
        fleet.start(DISPATCHER)
        worker = fleet.start("transfer")
        wait_for(stored, 30, 0.02)
        fleet.kill_child(worker)
        assert stored() < 4, "the sending ended before the kill: make the archive slower"

        def ended() -> str:
            with database.read() as session:
                state = session.get_one(Sending, sending.id).state
            return state if state != RequestState.PENDING else ""

        assert wait_for(ended, 60) == RequestState.DONE
        with database.read() as session:
            assert session.get_one(WorkItem, item.id).attempts == 2
            planned = set(session.scalars(select(SentObject.sop_instance_uid)))
        assert stored() == len(planned) == 4
        assert {str(ds.SOPInstanceUID) for ds in archive.received()} == planned
    database.close()
