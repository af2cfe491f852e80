"""Who may call which route: one row for each, written by hand, so that a new route is a decision.

Read by `test_routes.py`, which walks it against the running application.
"""

from dataclasses import dataclass

from db.states import Role


@dataclass(frozen=True)
class Row:
    """One method of one route.

    Attributes:
        role: Least role; None: everybody.
        kind: What the address names: `job`, `study`, `slice`, `prediction` (its sender and all clinicians may see it),
            `upload`, `token` (its owner alone), `user` (any), or empty.
    """

    role: Role | None
    kind: str = ""


EVERYBODY, SUBMITTER, CLINICIAN, ADMIN = Row(None), Row(Role.SUBMITTER), Row(Role.CLINICIAN), Row(Role.ADMIN)
JOB, STUDY, SLICE, PREDICTION = (Row(Role.SUBMITTER, kind) for kind in ("job", "study", "slice", "prediction"))
UPLOAD, TOKEN = Row(Role.SUBMITTER, "upload"), Row(Role.SUBMITTER, "token")
USER = Row(Role.ADMIN, "user")

API = "/api/v1"

ROUTES: dict[tuple[str, str], Row] = {
    ("GET", "/health/live"): EVERYBODY,
    ("GET", "/health/ready"): EVERYBODY,
    ("GET", "/health/status"): ADMIN,
    ("GET", "/metrics"): EVERYBODY,  # and judged by address or token: test_health.py
    ("GET", "/static/<path:filename>"): EVERYBODY,
    ("GET", f"{API}/docs"): EVERYBODY,
    ("GET", f"{API}/docs/static/<path:filename>"): EVERYBODY,
    ("GET", f"{API}/openapi.json"): EVERYBODY,
    ("GET", f"{API}/me"): SUBMITTER,
    ("GET", f"{API}/me/tokens"): SUBMITTER,
    ("POST", f"{API}/me/tokens"): SUBMITTER,
    ("DELETE", f"{API}/me/tokens/<uuid:token_id>"): TOKEN,
    ("GET", f"{API}/checkpoints"): SUBMITTER,
    ("GET", f"{API}/checkpoints/history"): CLINICIAN,
    ("GET", f"{API}/checkpoints/<uuid:checkpoint_id>"): CLINICIAN,
    ("POST", f"{API}/checkpoints/<uuid:checkpoint_id>/promote"): ADMIN,
    ("POST", f"{API}/checkpoints/rollback"): ADMIN,
    ("POST", f"{API}/checkpoints/<uuid:checkpoint_id>/withdraw"): ADMIN,
    ("POST", f"{API}/checkpoints/<uuid:checkpoint_id>/lift"): ADMIN,
    ("GET", f"{API}/checkpoints/<uuid:checkpoint_id>/results"): CLINICIAN,
    ("GET", f"{API}/checkpoints/<uuid:checkpoint_id>/results.csv"): CLINICIAN,
    ("POST", f"{API}/checkpoints/<uuid:checkpoint_id>/rerun"): ADMIN,
    ("POST", f"{API}/reclassifications"): ADMIN,
    ("GET", f"{API}/sweeps"): CLINICIAN,
    ("POST", f"{API}/sweeps"): ADMIN,
    ("GET", f"{API}/sweeps/<uuid:sweep_id>"): CLINICIAN,
    ("GET", f"{API}/sweeps/<uuid:sweep_id>/runs"): CLINICIAN,
    ("GET", f"{API}/sweeps/<uuid:sweep_id>/leaderboard.csv"): CLINICIAN,
    ("GET", f"{API}/sweeps/<uuid:sweep_id>/export.json"): CLINICIAN,
    ("GET", f"{API}/sweeps/<uuid:sweep_id>/mlflow.zip"): CLINICIAN,
    ("POST", f"{API}/sweeps/<uuid:sweep_id>/pause"): ADMIN,
    ("POST", f"{API}/sweeps/<uuid:sweep_id>/resume"): ADMIN,
    ("POST", f"{API}/sweeps/<uuid:sweep_id>/cancel"): ADMIN,
    ("GET", f"{API}/runs/<uuid:run_id>"): CLINICIAN,
    ("GET", f"{API}/runs/<uuid:run_id>/export.json"): CLINICIAN,
    ("GET", f"{API}/runs/<uuid:run_id>/mlflow.zip"): CLINICIAN,
    ("POST", f"{API}/runs/<uuid:run_id>/retry"): ADMIN,
    ("GET", f"{API}/datasets"): CLINICIAN,
    ("POST", f"{API}/datasets"): ADMIN,
    ("GET", f"{API}/datasets/<uuid:dataset_id>"): CLINICIAN,
    ("DELETE", f"{API}/datasets/<uuid:dataset_id>"): ADMIN,
    ("POST", f"{API}/datasets/<uuid:dataset_id>/again"): ADMIN,
    ("GET", f"{API}/datasets/<uuid:dataset_id>/samples.csv"): CLINICIAN,
    ("POST", f"{API}/studies"): SUBMITTER,
    ("POST", f"{API}/uploads"): SUBMITTER,
    ("GET", f"{API}/uploads/<uuid:upload_id>"): UPLOAD,
    ("PUT", f"{API}/uploads/<uuid:upload_id>/files"): UPLOAD,
    ("POST", f"{API}/uploads/<uuid:upload_id>/files"): UPLOAD,
    ("POST", f"{API}/uploads/<uuid:upload_id>/complete"): UPLOAD,
    ("DELETE", f"{API}/uploads/<uuid:upload_id>"): UPLOAD,
    ("GET", f"{API}/jobs"): SUBMITTER,
    ("GET", f"{API}/jobs/<uuid:job_id>"): JOB,
    ("GET", f"{API}/jobs/<uuid:job_id>/events"): JOB,
    ("GET", f"{API}/jobs/<uuid:job_id>/receipt"): JOB,
    ("GET", f"{API}/jobs/<uuid:job_id>/receipt.csv"): JOB,
    ("GET", f"{API}/jobs/<uuid:job_id>/results.csv"): JOB,
    ("POST", f"{API}/jobs/<uuid:job_id>/cancel"): JOB,
    ("POST", f"{API}/jobs/<uuid:job_id>/retry"): JOB,
    ("GET", f"{API}/studies/<uuid:study_id>"): STUDY,
    ("GET", f"{API}/studies/<uuid:study_id>/results"): STUDY,
    ("GET", f"{API}/studies/<uuid:study_id>/results.csv"): STUDY,
    ("GET", f"{API}/slices/<uuid:slice_id>/image.png"): SLICE,
    ("GET", f"{API}/slices/<uuid:slice_id>/decisions"): SLICE,
    ("POST", f"{API}/slices/<uuid:slice_id>/decisions"): Row(Role.CLINICIAN, "slice"),
    ("GET", f"{API}/predictions/<uuid:prediction_id>/heatmap.png"): PREDICTION,
    ("GET", f"{API}/predictions/<uuid:prediction_id>/overlay.png"): PREDICTION,
    ("GET", f"{API}/predictions/<uuid:prediction_id>/receipt"): PREDICTION,
    ("POST", f"{API}/predictions/<uuid:prediction_id>/reproduce"): PREDICTION,
    ("GET", f"{API}/predictions/<uuid:prediction_id>/reproductions/<uuid:reproduction_id>"): PREDICTION,
    # Pages.
    ("GET", "/"): EVERYBODY,
    ("GET", "/login"): EVERYBODY,
    ("POST", "/login"): EVERYBODY,
    ("POST", "/logout"): EVERYBODY,
    ("POST", "/language"): EVERYBODY,
    ("GET", "/password"): SUBMITTER,
    ("POST", "/password"): SUBMITTER,
    ("GET", "/help"): SUBMITTER,
    ("GET", "/model"): SUBMITTER,
    ("GET", "/checkpoints"): CLINICIAN,
    ("GET", "/checkpoints/<uuid:checkpoint_id>"): CLINICIAN,
    ("GET", "/checkpoints/<uuid:checkpoint_id>/promote"): ADMIN,
    ("POST", "/checkpoints/<uuid:checkpoint_id>/promote"): ADMIN,
    ("POST", "/checkpoints/rollback"): ADMIN,
    ("POST", "/checkpoints/<uuid:checkpoint_id>/withdraw"): ADMIN,
    ("POST", "/checkpoints/<uuid:checkpoint_id>/lift"): ADMIN,
    ("GET", "/checkpoints/<uuid:checkpoint_id>/results"): CLINICIAN,
    ("GET", "/checkpoints/<uuid:checkpoint_id>/results.csv"): CLINICIAN,
    ("POST", "/checkpoints/<uuid:checkpoint_id>/rerun"): ADMIN,
    ("POST", "/checkpoints/reclassify"): ADMIN,
    ("POST", "/studies/<uuid:study_id>/reclassify"): Row(Role.ADMIN, "study"),
    ("GET", "/sweeps"): CLINICIAN,
    ("POST", "/sweeps"): ADMIN,
    ("GET", "/sweeps/new"): ADMIN,
    ("POST", "/sweeps/extent"): ADMIN,
    ("GET", "/sweeps/<uuid:sweep_id>"): CLINICIAN,
    ("POST", "/sweeps/<uuid:sweep_id>/pause"): ADMIN,
    ("POST", "/sweeps/<uuid:sweep_id>/resume"): ADMIN,
    ("POST", "/sweeps/<uuid:sweep_id>/cancel"): ADMIN,
    ("GET", "/runs/compare"): CLINICIAN,
    ("GET", "/runs/<uuid:run_id>"): CLINICIAN,
    ("POST", "/runs/<uuid:run_id>/retry"): ADMIN,
    ("GET", "/runs/<uuid:run_id>/mistakes/<uuid:mistake_id>/picture.png"): CLINICIAN,
    ("GET", "/runs/<uuid:run_id>/mistakes/<uuid:mistake_id>/layer.png"): CLINICIAN,
    ("GET", "/account"): SUBMITTER,
    ("POST", "/account/tokens"): SUBMITTER,
    ("POST", "/account/tokens/<uuid:token_id>/revoke"): TOKEN,
    ("GET", "/submit"): SUBMITTER,
    ("POST", "/submit"): SUBMITTER,
    ("POST", "/submit/sample"): SUBMITTER,
    ("GET", "/jobs"): SUBMITTER,
    ("GET", "/jobs/<uuid:job_id>"): JOB,
    ("GET", "/jobs/<uuid:job_id>/receipt"): JOB,
    ("POST", "/jobs/<uuid:job_id>/cancel"): JOB,
    ("POST", "/jobs/<uuid:job_id>/retry"): JOB,
    ("GET", "/studies"): SUBMITTER,
    ("GET", "/studies/<uuid:study_id>"): STUDY,
    ("GET", "/studies/<uuid:study_id>/slices/<uuid:slice_id>"): SLICE,
    ("POST", "/studies/<uuid:study_id>/slices/<uuid:slice_id>/decision"): Row(Role.CLINICIAN, "slice"),
    ("GET", "/datasets"): CLINICIAN,
    ("POST", "/datasets"): ADMIN,
    ("GET", "/datasets/new"): ADMIN,
    ("GET", "/datasets/reviewed"): ADMIN,
    ("POST", "/datasets/upload"): ADMIN,
    ("GET", "/datasets/<uuid:dataset_id>"): CLINICIAN,
    ("GET", "/datasets/<uuid:dataset_id>/samples"): CLINICIAN,
    ("GET", "/datasets/<uuid:dataset_id>/samples/<int:sequence>/picture.png"): CLINICIAN,
    ("POST", "/datasets/<uuid:dataset_id>/again"): ADMIN,
    ("POST", "/datasets/<uuid:dataset_id>/delete"): ADMIN,
    ("GET", "/predictions/<uuid:prediction_id>"): PREDICTION,
    ("GET", "/predictions/<uuid:prediction_id>/layer.png"): PREDICTION,
    ("POST", "/predictions/<uuid:prediction_id>/reproduce"): PREDICTION,
    ("GET", "/admin/users"): ADMIN,
    ("POST", "/admin/users"): ADMIN,
    ("POST", "/admin/users/<uuid:user_id>/disable"): USER,
    ("POST", "/admin/users/<uuid:user_id>/enable"): USER,
    ("POST", "/admin/users/<uuid:user_id>/password"): USER,
    ("POST", "/admin/users/<uuid:user_id>/role"): USER,
    ("GET", "/admin/audit"): ADMIN,
}
