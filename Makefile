# What there is to run, in one place; `make help` lists it. The work is done by
# deploy/local/parts and scripts/, which can be called directly just as well.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
# The job server is not for the programs started from here.
unexport MAKEFLAGS MFLAGS MAKELEVEL

PARTS := deploy/local/parts
SVC ?=
export SVC
# Options of `make rehearse` and `make compare`.
ARGS ?=

.PHONY: help run run-split run-ingest run-processor run-query dev test soak rehearse smoke lint bench compare \
	env status restart kill start stop logs reset

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) \
		| while IFS=$$'\t' read -r verb text; do printf '  make %-14s %s\n' "$$verb" "$$text"; done
	@printf '\nSVC is one of: tidegate (make run); postgres redis kafka ingest processor query edge (make run-split).\nMore: docs/local.md\n'

run: ## install, build, start everything in one process in the background, send sample events, print the URLs
	@scripts/run

run-split: ## the same in the split shape: ingest, processor and query on Kafka, Postgres and Redis
	@scripts/run-split

run-ingest: ## only the ingest service, in the foreground, on the local parts
	@scripts/foreground ingest

run-processor: ## only the processor, in the foreground
	@scripts/foreground processor

run-query: ## only the query service, in the foreground
	@scripts/foreground query

dev: ## SVC=ingest: one service in the foreground, rebuilt and restarted when a source changes
	@scripts/dev "$$SVC"

env: ## what runs now, as shell assignments: eval "$(make -s env)"
	@$(PARTS) env

status: ## one line for each part and service: name, state, pid, address
	@$(PARTS) status

restart: ## SVC=processor: stop and start one part or service
	@$(PARTS) restart $${SVC:+"$$SVC"}

kill: ## SVC=kafka: SIGKILL one part or service
	@$(PARTS) kill $${SVC:+"$$SVC"}

start: ## SVC=kafka: start one part or service and wait until it answers
	@$(PARTS) start $${SVC:+"$$SVC"}

stop: ## stop everything, or with SVC=query one part or service, in an orderly way
	@if [ -n "$$SVC" ]; then $(PARTS) stop "$$SVC"; else $(PARTS) down; fi

logs: ## SVC=ingest: the last lines of its log (FOLLOW=1 goes on)
	@$(PARTS) logs $${SVC:+"$$SVC"} $(if $(FOLLOW),-f)

reset: ## stop everything and delete the local data
	@$(PARTS) reset

test: ## everything, on real parts of its own, apart from those of `make run`
	@scripts/test

soak: ## what takes long: a million records, 20 kills of each part, long outages; SOAK_MINUTES=120 bounds it
	@scripts/soak

rehearse: ## load on a split set while each service and part is stopped, killed, frozen, restored: a line each
	@scripts/rehearse $(ARGS)

smoke: ## the commands of this list against a private set, end to end (part of `make test`)
	@scripts/smoke

lint: ## formatting, clippy, dependency licences and sources, the specification's references, what is deployed, shell scripts
	@scripts/lint

bench: ## throughput, latency and memory against their limits, as ratios
	@scripts/bench

compare: ## the same of an earlier revision and of this one in turn: make compare ARGS="REVISION backlog --rounds 5"
	@scripts/compare $(ARGS)
