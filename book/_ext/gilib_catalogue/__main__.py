"""``make catalogue``: check the catalogue, and say how many works of each family the book runs.

Exit status 1 on a complaint.
"""

from __future__ import annotations

from gilib_catalogue import collected, pictures, taxonomy


def main() -> int:
    """Print complaints, or the summary."""
    try:
        catalogue = collected.collect()
        complaints = catalogue.complaints()
    except ValueError as error:
        complaints = [str(error)]
    if complaints:
        print("\n".join(complaints))
        return 1
    print(f"{'':24} {'':16} works  run  idea  cited")
    for group in taxonomy.GROUPS:
        for name, counts in pictures.cells(catalogue.works, catalogue.here, group).items():
            run, idea, cited = (counts[status] for status in ("run", "idea", "cited"))
            print(f"{group.title:24} {name:16} {counts.total():5} {run:4} {idea:5} {cited:6}")
    numbers = catalogue.numbers()
    print(
        f"{numbers['works']} works: {numbers['run']} run, {numbers['idea']} as an idea, {numbers['cited']} only cited."
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
