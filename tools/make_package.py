"""Write package.json and lib/PART.json, the lists that mip installs the sources from."""

from pathlib import Path

from warden_build.packages import repository_lists

REPO = Path(__file__).resolve().parent.parent


def main() -> None:
    """Write the lists of this checkout."""
    lib = REPO / "lib"
    tree = {path.relative_to(lib).as_posix(): path.read_text() for path in lib.rglob("*.py")}
    for path, text in repository_lists(tree).items():
        (REPO / path).write_text(text)


if __name__ == "__main__":
    main()
