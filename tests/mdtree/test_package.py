"""What `import mdtree` gives, and what it does not cost."""

import subprocess
import sys

import mdtree


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_every_exported_name_is_there():
    for name in mdtree.__all__:
        assert getattr(mdtree, name) is not None
        assert name in dir(mdtree)


def test_importing_the_package_starts_no_torch():
    assert run("import sys, mdtree; sys.exit('torch' in sys.modules)").returncode == 0


def test_diagnose_is_the_function_however_its_module_was_imported():
    for first in ("import mdtree.diagnose", "from mdtree.diagnose import Sources", "import mdtree; mdtree.diagnose"):
        done = run(
            f"{first}\nimport mdtree\nassert mdtree.diagnose.__name__ == 'diagnose'\nassert callable(mdtree.diagnose)"
        )
        assert done.returncode == 0, done.stderr


def test_a_name_that_is_not_there():
    assert (
        run("import mdtree; mdtree.diagnosis_of_everything")
        .stderr.strip()
        .endswith("AttributeError: module 'mdtree' has no attribute 'diagnosis_of_everything'")
    )
