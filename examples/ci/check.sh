#!/bin/sh
# What a CI job runs: the tests of the integration, then a client that is no Python under scenarios of its own.
# SCENARIOS and REPORT may be set. Exit code 0: the client did what a right client does.
set -eu
cd "$(dirname "$0")"
python -m pytest -q ../integration
python -m countersign run --scenario "${SCENARIOS:-missing-intermediate,expired,other-name,root-sent}" \
  --report "junit=${REPORT:-tls.xml}" -- curl -sS --fail '{url}'
