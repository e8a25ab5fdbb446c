#!/bin/sh
# Install the newest wheel alone, in a fresh environment of one Python, and score a drawn slide with
# it, without a home and with an installation that cannot be written.
# Usage: check_wheel.sh UV PYTHON     (a version, or the path of an interpreter)
set -eu
uv=$1 python=$2
wheel=$PWD/$(ls -t dist/*.whl | head -n 1)
folder=$(mktemp -d)
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
if ! "$uv" venv --quiet --no-python-downloads --python "$python" "$folder/env" 2> /dev/null; then
  echo "Python $python is not on this machine: not checked."
  exit 0
fi
"$uv" pip install --quiet --python "$folder/env/bin/python" "$wheel"
chmod -R a-w "$folder/env"
cd "$folder"
export HOME=/nonexistent PYTHONPATH= PYTHONDONTWRITEBYTECODE=1
unset XDG_CACHE_HOME XDG_CONFIG_HOME
env/bin/python -c 'from wsi_anomaly.synthetic import make_slide
make_slide("slide.tif", seed=1, size_px=(1024, 1024))'
env/bin/wsi-anomaly doctor > doctor.txt 2>&1 || { cat doctor.txt; exit 1; }
env/bin/wsi-anomaly score --quiet slide.tif
test -f results/slide/report.html
echo "$(env/bin/python --version): installed from $(basename "$wheel"), a slide is scored."
