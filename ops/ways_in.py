"""The doctor's checks of the ways in: listener, watched folder, studies that are arriving.

Owns what is healthy about them. Says nothing of a way that is switched off. Refuses to send anything: a connection that
is opened and closed again is all that the listener sees.
"""

import os
import socket
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from config.settings import Settings
from db.clock import database_now
from db.queries import receptions
from db.queries.receptions import UnknownSender
from db.receptions import Reception
from db.session import Database
from ops.checks import Answer, fail, ok

OVERDUE_S = 60.0
CONNECT_S = 3.0


def check_ways_in(settings: Settings) -> list[Answer]:
    """What is switched on answers, has its account, and what arrived goes on."""
    answers = []
    if settings.dicom_port:
        answers.append(_listener(settings))
    if settings.watch_dir is not None:
        folder = settings.watch_dir
        if folder.is_dir() and os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            answers.append(ok("watched folder", "can be read and written"))
        else:
            answers.append(
                fail("watched folder", f"{folder} is missing or not writable", "make it, or correct its rights")
            )
    database = Database(settings.resolved_database_url)
    try:
        with database.read() as session:
            users = [settings.dicom_user] if settings.dicom_port else []
            users += [settings.watch_user] if settings.watch_dir is not None else []
            for username in dict.fromkeys(users):
                try:
                    receptions.service_user(session, username)
                except UnknownSender as unknown:
                    answers.append(fail("device account", str(unknown), "until then, nothing is taken from the device"))
            late = database_now(session) - timedelta(seconds=settings.study_quiet_s + OVERDUE_S)
            overdue = session.scalar(select(func.count()).select_from(Reception).where(Reception.received_at < late))
    except SQLAlchemyError:
        return answers  # the database's own check says so
    finally:
        database.close()
    if overdue:
        answers.append(
            fail("arriving studies", f"{overdue} are complete and no job yet", "see that the dispatcher runs")
        )
    return answers


def _listener(settings: Settings) -> Answer:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.dicom_host, settings.dicom_host)  # noqa: S104
    where = f"port {settings.dicom_port} as {settings.dicom_ae_title}"
    try:
        socket.create_connection((host, settings.dicom_port), CONNECT_S).close()
    except OSError as error:
        mend = "see var/log/listener.log; `make up` starts it when NEUROSIGHT_DICOM_PORT is set"
        return fail("listener", f"{where} does not answer ({type(error).__name__})", mend)
    return ok("listener", f"answers on {where}")
