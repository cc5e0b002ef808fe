FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN python -m venv /build && /build/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY countersign countersign
RUN /build/bin/python -m hatchling build -t wheel && /build/bin/pip install --no-cache-dir --no-deps dist/*.whl

# requirements.lock pins the tools of development too: keep what the wheel needs, with the same versions and hashes.
# Were one missing, the install below would stop at it.
RUN /build/bin/python - > runtime.lock <<'EOF'
import re
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

needed, ahead = set(), ["countersign"]
while ahead:
    name = canonicalize_name(ahead.pop())
    if name not in needed:
        needed.add(name)
        wanted = map(Requirement, requires(name) or ())
        ahead += [r.name for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
for pinned in re.split(r"(?m)^(?=[a-z])", Path("requirements.lock").read_text()):
    if pinned.partition("==")[0] in needed:
        print(pinned, end="")
EOF
RUN python -m venv /opt/countersign \
 && /opt/countersign/bin/pip install --no-cache-dir --require-hashes -r runtime.lock \
 && /opt/countersign/bin/pip install --no-cache-dir --no-deps dist/*.whl \
 && /opt/countersign/bin/pip check \
 && /opt/countersign/bin/pip uninstall --yes pip

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/countersign --shell /usr/sbin/nologin countersign \
 && install -d -o countersign -g countersign -m 0700 /var/lib/countersign /run/countersign
COPY --from=build /opt/countersign /opt/countersign
ENV PATH=/opt/countersign/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    COUNTERSIGN_HOME=/var/lib/countersign \
    COUNTERSIGN_PROXY_READY_FILE=/run/countersign/ready.json
VOLUME /var/lib/countersign
USER countersign
# Ready, and the port listens. It looks instead of connecting: a connection would be one more recorded session each time.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
  CMD ["python", "-c", "import json, os; port = '%04X' % int(json.load(open(os.environ['COUNTERSIGN_PROXY_READY_FILE']))['listen'].rpartition(':')[2]); raise SystemExit(not any(row.split()[1].endswith(':' + port) and row.split()[3] == '0A' for table in ('tcp', 'tcp6') for row in open('/proc/net/' + table)))"]
ENTRYPOINT ["countersign"]
CMD ["--help"]
