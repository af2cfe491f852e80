"""Searching an archive with C-FIND and fetching from it with C-GET (PS3.4 annex C, Study Root).

C-GET and not C-MOVE: the objects come back over the connection that we opened, so that it works through firewalls,
needs no listener of ours, and no entry of our address in the archive's tables. An archive that has C-MOVE only is
reached by sending from there to our listener.

Owns the associations and the presentation contexts. An object that lies compressed in an archive can often only be sent
in its own transfer syntax, and a context holds the one that is agreed on; so each SOP class is proposed once for plain
and once for each compressed syntax. Some archives (dcmtk's among them) look at the first context of a class only: what
they do not send, they are asked for again with one compressed syntax at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Self

from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000 as JPEG_2000
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from exchange.archive import Keep, Listed, usable
from exchange.dimse import PLAIN, associate, entity, leave
from exchange.peering import PeerRefused, PeerUnavailable, Route
from imaging.dicom_out import MARK

PACKED: Final = (
    JPEG2000Lossless,
    JPEG_2000,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)
MAX_CLASSES: Final = 12
"""An association has 128 contexts at most (PS3.8 9.3.2.2); a class takes ten of them."""
USUAL: Final = (
    MRImageStorage,
    EnhancedMRImageStorage,
    SecondaryCaptureImageStorage,
    CTImageStorage,
    ComputedRadiographyImageStorage,
)
"""Asked for where an archive does not say which classes a study has."""
_PENDING: Final = (0xFF00, 0xFF01)


class DimseArchive:
    """An archive over DIMSE; use as a context manager.

    Args:
        route: The peer.
    """

    def __init__(self, route: Route) -> None:
        self._route = route
        self._finding: Association | None = None
        self._getting: Association | None = None
        self._contexts: tuple[tuple[str, ...], tuple[UID, ...]] = ((), ())
        self._packed: tuple[UID, ...] = PACKED
        self._keep: Keep | None = None
        self._fault: Exception | None = None

    def __enter__(self) -> Self:
        """Opens nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the associations."""
        for association in (self._finding, self._getting):
            if association is not None:
                leave(association)
        self._finding = self._getting = None

    def studies(self, accession_number: str) -> list[str]:
        """Study Instance UIDs under an accession number. Raises PeerUnavailable, PeerRefused."""
        wanted = Dataset()
        wanted.QueryRetrieveLevel = "STUDY"
        wanted.AccessionNumber = accession_number
        wanted.StudyInstanceUID = ""
        found = []
        for answer in self._find(wanted):
            # An archive that does not know the key answers with everything: take only what was asked for.
            same = str(answer.get("AccessionNumber", "") or "").strip() == accession_number
            uid = str(answer.get("StudyInstanceUID", "") or "")
            if same and usable([uid]):
                found.append(uid)
        return list(dict.fromkeys(found))

    def instances(self, study_instance_uid: str) -> list[Listed]:
        """Every instance of a study, series by series. Raises PeerUnavailable, PeerRefused."""
        wanted = Dataset()
        wanted.QueryRetrieveLevel, wanted.StudyInstanceUID = "SERIES", study_instance_uid
        wanted.SeriesInstanceUID = wanted.SeriesDescription = ""
        series = [
            str(answer.get("SeriesInstanceUID", "") or "")
            for answer in self._find(wanted)
            if str(answer.get("SeriesDescription", "") or "").strip() != MARK  # what we sent there ourselves
        ]
        found: list[Listed] = []
        for uid in dict.fromkeys(series):
            if not usable([uid]):
                continue
            below = Dataset()
            below.QueryRetrieveLevel, below.StudyInstanceUID, below.SeriesInstanceUID = "IMAGE", study_instance_uid, uid
            below.SOPInstanceUID = below.SOPClassUID = ""
            for answer in self._find(below):
                number, kind = str(answer.get("SOPInstanceUID", "") or ""), str(answer.get("SOPClassUID", "") or "")
                if usable([number]):
                    found.append(Listed(uid, number, kind if usable([kind]) else ""))
        return list(dict.fromkeys(found))

    def fetch(self, study_instance_uid: str, wanted: Sequence[Listed], keep: Keep) -> None:
        """C-GET of instances of one series. Raises PeerUnavailable, PeerRefused, and whatever `keep` raises."""
        classes = {item.sop_class_uid for item in wanted if item.sop_class_uid}
        missing = {item.sop_instance_uid: item for item in wanted}

        def kept(uid: str, data: bytes) -> None:
            missing.pop(uid, None)
            keep(uid, data)

        self._get(study_instance_uid, wanted, self._association_for(classes, ()), kept)
        for syntax in self._packed:
            if not missing:
                return
            before = len(missing)
            try:
                association = self._association_for(classes, (syntax,))
            except PeerRefused:
                continue  # it knows no such syntax
            self._get(study_instance_uid, list(missing.values()), association, kept)
            if len(missing) < before:  # the next batch is probably packed alike
                self._packed = (syntax, *(other for other in self._packed if other != syntax))
        if missing:
            self._packed = self._packed[:1]  # it is something else: do not ask so often for every batch

    def _get(self, study_instance_uid: str, wanted: Sequence[Listed], association: Association, keep: Keep) -> None:
        asked = Dataset()
        asked.QueryRetrieveLevel, asked.StudyInstanceUID = "IMAGE", study_instance_uid
        asked.SeriesInstanceUID = wanted[0].series_instance_uid
        asked.SOPInstanceUID = [item.sop_instance_uid for item in wanted]
        self._keep, self._fault = keep, None
        try:
            for status, _ in association.send_c_get(asked, StudyRootQueryRetrieveInformationModelGet):
                if "Status" not in status:
                    raise self._silent()
                # 0xA702, "unable to perform sub-operations", is also said where no object could be sent as agreed.
                if int(status.Status) in (0xA700, 0xA701):
                    raise PeerUnavailable("peer_busy", "the archive has no resources for the retrieval")
        except ValueError as error:
            raise PeerRefused("no_common_context") from error
        except RuntimeError as error:
            raise self._silent() from error
        finally:
            self._keep = None
        if self._fault is not None:
            raise self._fault

    def _find(self, wanted: Dataset) -> Iterator[Dataset]:
        if self._finding is None or not self._finding.is_established:
            ours = entity(self._route)
            ours.add_requested_context(StudyRootQueryRetrieveInformationModelFind, PLAIN)
            self._finding = associate(ours, self._route)
        try:
            for status, answer in self._finding.send_c_find(wanted, StudyRootQueryRetrieveInformationModelFind):
                if "Status" not in status:
                    raise self._silent()
                code = int(status.Status)
                if code in _PENDING and answer is not None:
                    yield answer
                elif code & 0xFF00 == 0xA700:
                    raise PeerUnavailable("peer_busy", "the archive has no resources for the search")
                elif code not in (0x0000, *_PENDING):
                    raise PeerRefused("search_refused", {"status": f"0x{code:04X}"})
        except RuntimeError as error:
            raise self._silent() from error

    def _association_for(self, classes: set[str], only: tuple[UID, ...]) -> Association:
        """The association for these classes, plain and packed; or in one packed syntax only."""
        wanted = tuple(sorted(classes)[:MAX_CLASSES]) or tuple(str(uid) for uid in USUAL)
        established = self._getting is not None and self._getting.is_established
        if self._getting is not None and established and self._contexts == (wanted, only):
            return self._getting
        if self._getting is not None:
            leave(self._getting)
        ours = entity(self._route)
        contexts: list[PresentationContext] = [build_context(StudyRootQueryRetrieveInformationModelGet, [*PLAIN])]
        roles: list[Any] = []
        for uid in wanted:
            if not only:
                contexts.append(build_context(uid, [*PLAIN]))
            contexts += [build_context(uid, syntax) for syntax in only or PACKED]
            role = SCP_SCU_RoleSelectionNegotiation()
            role.sop_class_uid, role.scu_role, role.scp_role = UID(uid), False, True
            roles.append(role)
        self._getting = associate(
            ours, self._route, contexts=contexts, ext_neg=roles, evt_handlers=[(evt.EVT_C_STORE, self._received)]
        )
        self._contexts = (wanted, only)
        return self._getting

    def _received(self, event: Any) -> int:
        """One object of a C-GET; as it came, not decoded."""
        try:
            if self._keep is not None and self._fault is None:
                self._keep(str(event.request.AffectedSOPInstanceUID), event.encoded_dataset())
                return 0x0000
        except Exception as error:  # the library would swallow it: `fetch` raises it again
            self._fault = error
        return 0xA700

    def _silent(self) -> PeerUnavailable:
        return PeerUnavailable("peer_silent", f"no answer within {self._route.timeout_s:g} s, or the peer broke off")
