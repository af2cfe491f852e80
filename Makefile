# The commands of NeuroSight. `make` alone lists them.
# State lies under var/, the virtual environment in .venv (VENV=... for another folder).

VENV ?= .venv
PY := $(VENV)/bin/python
ARGS ?=
export VENV
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: faithfulness fuzz vendor translations help demo up doctor test check bench bench-sweep lock docs migrate password secrets clean-state sweep dataset environment environment-train environment-dev

help: ## list these commands
	@echo "NeuroSight: research use only, not for diagnosis."
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: environment ## classify a real study, show the results, stay up until Ctrl-C (ARGS=--once: end by itself)
	@exec $(PY) -m ops demo $(ARGS)

up: environment ## start everything for daily use: broker, workers, web
	@exec $(PY) -m ops up $(ARGS)

doctor: environment ## push a synthetic study through the running system and say what is wrong
	@exec $(PY) -m ops doctor $(ARGS)

test: environment-dev ## run all tests (ARGS="tests/unit -k name" for some)
	@exec $(PY) -m pytest $(ARGS)

check: environment-dev ## lint, format, types, import rules, one migration head
	@exec $(PY) -m ops.check

bench: environment-dev ## measure speed on this machine: every figure comes from here
	@exec $(PY) -m benchmarks.inference $(ARGS)

fuzz: environment-dev ## look for files that break reading, for a stated time (ARGS=--minutes=10)
	@exec $(PY) -m tests.fuzz $(ARGS)

sweep: environment-train ## train a set of scenarios and show the leaderboard (ARGS="--scenarios thesis.yaml --dataset NAME")
	@exec $(PY) -m ops sweep $(ARGS)

dataset: environment ## register a folder of labelled pictures for training (ARGS="NAME FOLDER")
	@exec $(PY) -m ops dataset $(ARGS)

environment-train: ## install what training needs (TensorFlow); a running `make up` notices within a minute
	@sh ops/python.sh ops/environment.py train

bench-sweep: environment-dev ## measure a sweep of 27 scenarios against one at a time in plain Keras (ARGS="--data DIR --weights-dir DIR")
	@exec $(PY) -m benchmarks.sweep $(ARGS)

faithfulness: environment-dev ## measure whether a model's heatmaps tell the truth (ARGS="--artefact FILE --data DIR --out DIR")
	@exec $(PY) -m training faithfulness $(ARGS)

lock: environment-dev ## write the lock files anew (ARGS=--upgrade: newest versions)
	@exec $(PY) -m ops.lock $(ARGS)

docs: environment ## write docs/settings.md from the settings
	@exec $(PY) -m ops settings --write

vendor: environment-dev ## fetch the front-end libraries anew, after a change of their versions (needs npm)
	@exec $(PY) -m ops.vendor

translations: environment-dev ## bring the Indonesian catalogue up to date with the sources (lists what is left to translate)
	@exec $(PY) -m ops.catalogues

migrate: environment ## bring the database to the newest schema (up and demo do it by themselves)
	@exec $(PY) -m ops prepare

password: environment ## give a user a new one-time password (ARGS=username)
	@exec $(PY) -m web accounts password $(ARGS)

secrets: ## draw the passwords for docker-compose.yml into docker/secrets.env (once)
	@sh ops/python.sh ops/container_secrets.py

clean-state: environment ## delete all local state under var/ (asks first)
	@exec $(PY) -m ops clean-state $(ARGS)

environment:
	@sh ops/python.sh ops/environment.py runtime

environment-dev:
	@sh ops/python.sh ops/environment.py dev
