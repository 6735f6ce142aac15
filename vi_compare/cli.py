"""The ``vi-compare`` command.

Nothing heavy is imported here: `--help`, a mistyped option and a missing file must
answer before JAX has loaded.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from vi_compare import catalogue
from vi_compare.errors import InputError, blamed
from vi_compare.settings import EFFORTS, REFERENCES, Settings
from vi_compare.streams import Stream, unfailing
from vi_compare.timing import profile, timed

if TYPE_CHECKING:  # they need JAX
    from vi_compare.comparison import Comparison
    from vi_compare.run.prepared import Prepared
    from vi_compare.run.progress import Observer
    from vi_compare.study import Study

app = typer.Typer(
    name="vi-compare",
    help="Which variational approximation of a NumPyro model can be trusted, for what, and why.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


class Exit(IntEnum):
    """Exit statuses of the command. `diff` ends with the first two as diff(1) does."""

    OK = 0
    FAILED = 1
    CHANGED = 1
    BAD_INPUT = 2
    INTERRUPTED = 130
    TERMINATED = 143


def complete_fit(incomplete: str) -> list[str]:
    """Names that can stand next in a fit label."""
    head, slash, _ = incomplete.rpartition("/")
    kind = ("guides", "divergences", "solvers")[min(2, incomplete.count("/"))]
    ladder = () if slash else ("auto",)
    return [head + slash + name for name in (*ladder, *catalogue.names(kind))]


def complete_kept(context: typer.Context, incomplete: str) -> list[str]:
    """Fits of the folder that was named, as far as it can be read."""
    from vi_compare.comparison import read_results

    try:
        results = read_results(Path(context.params["folder"]))
    except (InputError, KeyError, TypeError):
        return []
    names = [fit["name"] for fit in results["fits"]] + ["reference"]
    return [name for name in names if name.startswith(incomplete)]


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"vi-compare {version('vi-compare')}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Options that stand before the command; each answers by itself."""


Script = Annotated[
    str,
    typer.Argument(
        metavar="SCRIPT[:NAME]", help="A model script, and which of its models or studies."
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FILE",
        help="The model's keyword arguments (.json, .npz, .csv, .nc), instead of the script's.",
    ),
]
Fits = Annotated[
    list[str] | None,
    typer.Option(
        "--fit",
        metavar="GUIDE/DIVERGENCE[/SOLVER]",
        help="What to compare, instead of what the script says; repeat it for several. "
        "For example mixture:2/reverse-kl or mvn/forward-kl; auto for guides of growing reach, up "
        "to the first that is Faithful.",
        autocompletion=complete_fit,
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Every random number derives from it.")]
Draws = Annotated[
    int | None,
    typer.Option(
        min=1000,
        help="Draws behind every Monte Carlo number; by default 20 000, fewer where log p takes "
        "long.",
    ),
]
Restarts = Annotated[
    int | None,
    typer.Option(min=1, help="Starts of every fit; by default what the script says, else 16."),
]
ReferenceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--reference",
        metavar="exact|chains|nuts|none|FILE",
        help="Where draws of the target come from: exact(key, n) of the script, short chains "
        "from inside and outside of a Gaussian, NUTS, or a file "
        "(ArviZ .nc, .csv, .npz, posteriordb .json.zip), a folder or a pattern in quotes; repeat "
        "it for a file a chain. By default exact if there is one, else chains.",
        autocompletion=lambda: list(REFERENCES),
    ),
]
Effort = Annotated[
    str,
    typer.Option(
        metavar="|".join(EFFORTS),
        help="How far --reference chains goes: normal takes at most about as many gradients as "
        "four fits, quick a quarter of that, thorough ten times as many.",
        autocompletion=lambda: list(EFFORTS),
    ),
]
Guide = Annotated[
    str,
    typer.Option(
        metavar="GUIDE",
        help="Whose optimum to follow, for example mixture:2 or mvn.",
        autocompletion=complete_fit,
    ),
]
Alpha = Annotated[
    str,
    typer.Option(
        metavar="LOW:HIGH[:STEP]",
        help="From mode-seeking to mass-covering; 0 is reverse KL, 1 forward KL.",
    ),
]
Float32 = Annotated[bool, typer.Option("--float32", help="Compute in single precision.")]
OpenPage = Annotated[bool, typer.Option("--open", help="Open the page when done.")]
ShowProfile = Annotated[
    bool, typer.Option("--profile", help="Print where the time went, on stderr, at the end.")
]
Judge = Annotated[
    list[str] | None,
    typer.Option(
        "--judge",
        metavar="NAME",
        help="A site or quantity that verdicts are to rest on; repeat it for more. By default all.",
    ),
]
Out = Annotated[Path | None, typer.Option(help="Where to write; by default reports/<script name>.")]
RunFolder = Annotated[
    Path | None,
    typer.Option(help="The run folder to write into; by default reports/<script name>."),
]
KeepDraws = Annotated[
    bool, typer.Option("--keep-draws", help="Keep every draw in fits.nc, also above 50 MB.")
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress and no table: only where the page is.")
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show every reason of every verdict.")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print results.json on stdout instead of the table.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@app.command()
def run(
    script: Script,
    fit: Fits = None,
    data: Data = None,
    seed: Seed = 0,
    draws: Draws = None,
    restarts: Restarts = None,
    reference: ReferenceOption = None,
    effort: Effort = "normal",
    judge: Judge = None,
    out: Out = None,
    open_page: OpenPage = False,
    keep_draws: KeepDraws = False,
    float32: Float32 = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    json: Json = False,
    show_profile: ShowProfile = False,
    debug: Debug = False,
) -> int:
    """Fit, measure and compare; write report.html, results.json and fits.nc."""
    if verbose and (quiet or json):
        raise InputError(f"--verbose and --{'quiet' if quiet else 'json'} exclude each other")
    folder = _run_folder(script, out)
    _start(float32)
    with timed("imports"):
        from vi_compare.run.progress import Silent, Terminal
        from vi_compare.verdict import Status

    study = _study(script, fit, data, judge)
    settings = Settings(seed, draws, restarts, reference or None, effort, keep_draws, float32)
    with Silent() if quiet else Terminal() as terminal:
        comparison, page = _compared(study, settings, folder, terminal)
    _tell(comparison, page, verbose, quiet, json)
    _end(page, open_page, show_profile, needs_output=json)
    failed = any(f["status"] == Status.FAILED for f in comparison.fits)
    return Exit.FAILED if failed else Exit.OK


@app.command()
def path(
    script: Script,
    guide: Guide = "mixture:2",
    alpha: Alpha = "-0.5:2",
    data: Data = None,
    seed: Seed = 0,
    draws: Draws = None,
    restarts: Restarts = None,
    reference: ReferenceOption = None,
    effort: Effort = "normal",
    out: RunFolder = None,
    open_page: OpenPage = False,
    float32: Float32 = False,
    show_profile: ShowProfile = False,
    debug: Debug = False,
) -> int:
    """Follow a guide's optimum from mode-seeking to mass-covering; add it to the report.

    Amari's divergence of order alpha joins reverse and forward KL. Every
    optimum found is followed: where several exist side by side, where the
    best one jumps, where one ends. The study is run first where the folder
    holds no run of it.
    """
    folder = _run_folder(script, out)
    _start(float32)
    settings = Settings(seed, draws, restarts, reference or None, effort, float32=float32)
    _end(_trace(script, guide, alpha, data, settings, folder), open_page, show_profile)
    return 0


@app.command()
def calibrate(
    script: Script,
    fit: Annotated[
        str,
        typer.Option(
            "--fit",
            metavar="GUIDE/DIVERGENCE[/SOLVER]",
            help="Which fit to calibrate, for example mvn/reverse-kl.",
            autocompletion=complete_fit,
        ),
    ],
    around: Annotated[
        str,
        typer.Option(
            metavar="prior|posterior",
            help="Where the true values of the simulated data come from: the prior, over all data "
            "that the model makes; or the posterior, near the observed data.",
            autocompletion=lambda: ["prior", "posterior"],
        ),
    ] = "prior",
    simulations: Annotated[
        int, typer.Option(help="Data sets, each with a refit; more show smaller faults.")
    ] = 200,
    data: Data = None,
    seed: Seed = 0,
    restarts: Restarts = None,
    reference: ReferenceOption = None,
    effort: Effort = "normal",
    judge: Judge = None,
    out: RunFolder = None,
    open_page: OpenPage = False,
    float32: Float32 = False,
    show_profile: ShowProfile = False,
    debug: Debug = False,
) -> int:
    """Fit simulated data whose truth is known; say where the fits are off; write calibration.html.

    Simulation-based calibration: it needs no draws of the target, and so sees what a reference and
    a fit miss alike. The same command goes on where it was interrupted, and more --simulations
    add to those there are.
    """
    folder = _run_folder(script, out)
    _start(float32)
    settings = Settings(seed, None, restarts, reference or None, effort, float32=float32)
    study = _study(script, [fit], data, judge)
    _end(_calibrated(study, settings, around, simulations, folder), open_page, show_profile)
    return 0


def _calibrated(
    study: Study, settings: Settings, around: str, simulations: int, folder: Path
) -> Path:
    """Calibrate the study's fit, say what was found and write it; the page's path."""
    with timed("imports"):
        from vi_compare.calibration import Around, CalibrationSettings, Calibrator
        from vi_compare.calibration.facts import write
        from vi_compare.run.progress import Terminal
        from vi_compare.terminal import show_calibration

    asked = CalibrationSettings(Around.parse(around), simulations)
    with Terminal() as terminal:
        calibrator = Calibrator.of(study, settings, asked, terminal)
        found, ranks = calibrator.run(folder, terminal)
        terminal.begin("writing the report")
        page = write(folder, found, ranks)
        terminal.end("")
    show_calibration(found, page)
    return page


def _trace(
    script: str, guide: str, alpha: str, data: Path | None, settings: Settings, folder: Path
) -> Path:
    """Follow the path, add it to the run in `folder`, say what was found; the page's path."""
    with timed("imports"):
        from dataclasses import replace

        from vi_compare.alpha_path import Span, Tracer
        from vi_compare.comparison import RESULTS, Comparison
        from vi_compare.run.labels import parse_part
        from vi_compare.run.progress import Terminal
        from vi_compare.terminal import show_path

    span = Span.parse(alpha)
    study = _study(script, None, data)
    part = parse_part("guides", guide, study.guides)
    with Terminal() as terminal:
        prepared = study.prepare(settings, terminal)
        tracer = Tracer.of(prepared, part, study.guides, span)
        _require_room(folder, prepared)
        known = (folder / RESULTS).exists()
        comparison = Comparison.load(folder) if known else prepared.run(terminal)
        found = tracer.trace(comparison, terminal)
        page = _save(replace(comparison, path=found), folder, terminal)
    show_path(found, page)
    return page


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `run` wrote.")],
    open_page: OpenPage = False,
    show_profile: ShowProfile = False,
    debug: Debug = False,
) -> int:
    """Render the page again from what is saved, without fitting."""
    from vi_compare.comparison import Comparison, read_results, write_page

    read_results(folder)
    _writable(folder)
    with timed("reading the run folder"):
        comparison = Comparison.load(folder)
    # A run's own results can be shown; what an editor made of them perhaps cannot.
    with blamed(f"{folder} cannot be shown, perhaps because its files were edited:"):
        text = _render(comparison)
    page = write_page(folder, text)
    print(page)
    _end(page, open_page, show_profile)
    return 0


@app.command()
def index(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the run folders are.")],
    open_page: OpenPage = False,
    debug: Debug = False,
) -> int:
    """Write DIR/index.html: all reports below a folder, with their verdicts."""
    from vi_compare.comparison import write_page

    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; give the one that holds the reports")
    from vi_compare.report.gallery import find, render_index

    found = find(folder)
    if not found:
        raise InputError(f"{folder} holds no reports; run `vi-compare run SCRIPT` first")
    page = write_page(folder, render_index(found, folder), "index.html")
    print(page)
    _end(page, open_page)
    return 0


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `run` wrote.")],
    fit: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="The fit, by its name in the comparison, or `reference`: draws of the target.",
            autocompletion=complete_kept,
        ),
    ],
    to: Annotated[
        Path,
        typer.Option(metavar="FILE", help="draws.nc (ArviZ's groups), draws.csv or draws.npz."),
    ],
    reweighted: Annotated[
        bool,
        typer.Option("--reweighted", help="Resample the draws by their smoothed weights."),
    ] = False,
    debug: Debug = False,
) -> int:
    """Write the draws of a fit, or of the reference, into a file for other programs."""
    from vi_compare.comparison import Comparison
    from vi_compare.files.export import export as write

    comparison = Comparison.load(folder)
    own = comparison.reference if fit == "reference" else comparison.fit(fit)
    print(write(own, to, reweighted))
    return 0


@app.command()
def diff(
    before: Annotated[
        Path,
        typer.Argument(metavar="RUN_A", help="A folder that `run` wrote, or its results.json."),
    ],
    after: Annotated[
        Path, typer.Argument(metavar="RUN_B", help="Another one, of the same target.")
    ],
    debug: Debug = False,
) -> int:
    """Say what changed between two runs beyond error, fit by fit.

    Exit status: 0 when nothing changed beyond error, 1 when something did, 2 for bad input.
    A verdict, a threshold, a doubt about the reference or a fit that only one run has
    counts as a change, too; versions, settings and costs are shown and do not count.
    """
    from vi_compare.comparison import RESULTS, read_results
    from vi_compare.difference import difference

    a, b = (
        read_results(path.parent if path.name == RESULTS and path.is_file() else path)
        for path in (before, after)
    )
    names = str(before), str(after)
    found = difference(a, b, names)
    from vi_compare.terminal import show_difference

    show_difference(found, names)
    return Exit.CHANGED if found.changed else Exit.OK


@app.command("list")
def list_entries() -> int:
    """Show guides, divergences, solvers, metrics and models, a line each."""
    _start(False)
    from vi_compare.terminal import show_catalogue

    return Exit.OK if show_catalogue() else Exit.BAD_INPUT


@app.command()
def check(
    script: Script,
    fit: Fits = None,
    data: Data = None,
    seed: Seed = 0,
    draws: Draws = None,
    restarts: Restarts = None,
    reference: ReferenceOption = None,
    effort: Effort = "normal",
    judge: Judge = None,
    float32: Float32 = False,
    debug: Debug = False,
) -> int:
    """Fit nothing: show the target, check model, data and reference, predict the time."""
    from vi_compare import script as scripts

    scripts.read(scripts.split(script)[0])
    _start(float32)
    from vi_compare.run.checking import inspect
    from vi_compare.run.progress import Terminal
    from vi_compare.terminal import show_check

    with Terminal() as terminal:
        settings = Settings(seed, draws, restarts, reference or None, effort, float32=float32)
        prepared = _study(script, fit, data, judge).prepare(settings, terminal, chains=False)
    show_check(inspect(prepared))
    return 0


def _study(script: str, fits: list[str] | None, data: Path | None, judge: list[str] | None = None):
    """The script's study, with the fits, and what to judge by, of the command line if it names
    any."""
    from dataclasses import replace

    from vi_compare import script as scripts

    with timed("reading the script"):
        study = scripts.load(*scripts.split(script), data)
    if judge:
        study = replace(study, judge=judge)
    if not fits:
        return study
    names = [fit.name for fit in replace(study, fits=fits, published=()).named()]
    kept = [entry for entry in study.published if entry.fit in names]
    return replace(study, fits=fits, published=kept)


def _start(float32: bool) -> None:
    """Set JAX up before the script is loaded: precision, and a cache of compiled code."""
    # Tracing makes garbage of small objects beside a large heap that stays: at Python's own
    # thresholds, walking that heap is a twentieth of the whole command.
    gc.set_threshold(1_000_000, 50, 50)
    with timed("imports"):
        import jax

        from vi_compare.cache import use_compilation_cache

    jax.config.update("jax_enable_x64", not float32)
    use_compilation_cache()
    profile.listen()


def _render(comparison) -> str:
    from vi_compare.report import render

    with timed("rendering"):
        return render(comparison)


def _compared(
    study: Study, settings: Settings, folder: Path, terminal: Observer
) -> tuple[Comparison, Path]:
    """Run the study; what came out, and its page."""
    with timed("checking the input, reference draws"):
        prepared = study.prepare(settings, terminal)
    _require_room(folder, prepared)
    comparison = prepared.run(terminal)
    return comparison, _save(comparison, folder, terminal)


def _tell(comparison: Comparison, page: Path, verbose: bool, quiet: bool, json: bool) -> None:
    """What came out, on stdout, in the form that was asked for."""
    from vi_compare.comparison import RESULTS
    from vi_compare.terminal import summarise

    if json:
        print((page.parent / RESULTS).read_text(encoding="utf-8"), end="")
    elif quiet:
        print(page)
    else:
        summarise(comparison, page, verbose)


def _save(comparison: Comparison, folder: Path, terminal: Observer) -> Path:
    """Write the run folder with its page, and say so."""
    terminal.begin("writing the report")
    page = comparison.save(folder, _render(comparison))
    terminal.end("")
    return page


def _end(
    page: Path, open_page: bool, show_profile: bool = False, needs_output: bool = False
) -> None:
    """What comes after a page was written. That stdout failed is then said, and is no failure
    of the command, unless what stands there was what it was asked for."""
    if not needs_output and isinstance(sys.stdout, Stream) and (why := sys.stdout.excused()):
        print(f"vi-compare: stdout cannot be written ({why}); the page is {page}", file=sys.stderr)
    if show_profile:
        print(profile.text(), file=sys.stderr)
    if open_page:
        typer.launch(str(page))


def _run_folder(script: str, out: Path | None) -> Path:
    """Where a run of the script is written; the script can be read, and the folder written."""
    from vi_compare import script as scripts

    path, name = scripts.split(script)
    scripts.read(path)
    folder = out or Path("reports") / "-".join(filter(None, (path.stem, name)))
    _writable(folder)
    return folder


def _writable(folder: Path) -> None:
    from vi_compare.comparison import writable

    with writable(folder):
        pass


def _require_room(folder: Path, prepared: Prepared) -> None:
    """Refuse a disk that could not hold the run, before the fits."""
    from vi_compare.comparison import require_room

    require_room(folder, prepared.bytes_to_keep)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status.

    0: every fit ended; 1: a fit failed, or `diff` found a change; 2: bad input, with one
    line on stderr. Where stdout cannot be written, and no page was, it is 1, too; whoever reads
    stdout may leave when he has read enough.
    """
    with unfailing() as out, _warnings_in_a_line():
        status = _told(sys.argv[1:] if arguments is None else arguments)
        if why := out.trouble:
            print(f"vi-compare: stdout cannot be written ({why})", file=sys.stderr)
            return status or Exit.FAILED
        return status


@contextlib.contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    """What this package warns of is said as what it refuses is, without the line of its code."""
    plain, own = warnings.formatwarning, str(Path(__file__).parent)

    def told(message, category, filename, lineno, line=None) -> str:
        if str(filename).startswith(own):
            return f"vi-compare: {message}\n"
        return plain(message, category, filename, lineno, line)

    warnings.formatwarning = told
    try:
        yield
    finally:
        warnings.formatwarning = plain


def _told(arguments: list[str]) -> int:
    """The status, with a line on stderr where a signal ended the command."""
    with _terminated() as terminated:
        try:
            status = _status(arguments)
        except KeyboardInterrupt:
            status = Exit.INTERRUPTED
        if terminated:
            status = Exit.TERMINATED
    if status in (Exit.INTERRUPTED, Exit.TERMINATED):
        word = "terminated" if terminated else "interrupted"
        print(f"vi-compare: {word}; no report is half-written", file=sys.stderr)
    return status


def _status(arguments: list[str]) -> int:
    # Typer exports the parent of its usage errors under no name of its own.
    usage_error: Any = typer.BadParameter.__base__
    try:
        _refuse_empty(arguments)
        status = app(arguments, standalone_mode=False)
    except usage_error as error:
        return _complain(error.format_message())
    except InputError as error:
        if "--debug" in arguments:
            raise
        return _complain(str(error))
    except (OSError, MemoryError) as error:
        if "--debug" in arguments:
            raise
        status = _complain(_refused_by_the_machine(error))
        return status if _is_a_bad_path(error) else Exit.FAILED
    except typer.Abort:
        return Exit.INTERRUPTED
    # Some versions of Typer return 130 instead of raising.
    return int(status) if isinstance(status, int) else Exit.OK


def _refuse_empty(arguments: list[str]) -> None:
    """An empty text, of a shell variable that is not set, would be taken for this folder."""
    for before, text in zip(["vi-compare", *arguments], arguments, strict=False):
        name, equals, value = text.partition("=")
        if not text.strip() or (name.startswith("--") and equals and not value.strip()):
            raise InputError(f"{name.strip() or before} is followed by an empty text; leave it out")


def _refused_by_the_machine(error: OSError | MemoryError) -> str:
    """What there is not, and what helps."""
    if isinstance(error, MemoryError):
        return "there is not enough memory; lower --draws or --restarts, or compare fewer fits"
    where = f": {error.filename}" if error.filename else ""
    remedy = "give another path" if _is_a_bad_path(error) else "make room and run it again"
    return f"{error.strerror or error}{where}; {remedy}"


def _is_a_bad_path(error: BaseException) -> bool:
    """Whether a path that was given is at fault, and not a disk or the memory that is full."""
    from vi_compare.comparison.writing import FULL

    return isinstance(error, OSError) and error.errno not in FULL


@contextlib.contextmanager
def _terminated() -> Iterator[list[int]]:
    """Inside, SIGTERM ends the command as Ctrl-C does; the list tells whether it came."""
    came: list[int] = []

    def end(number: int, frame: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    old = signal.signal(signal.SIGTERM, end)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, old or signal.SIG_DFL)


def _complain(message: str) -> int:
    print(f"vi-compare: {' '.join(message.split())}", file=sys.stderr)
    return Exit.BAD_INPUT


def entry() -> NoReturn:
    """Entry point of the ``vi-compare`` script."""
    status = main()
    # All files are closed; freeing a large heap object by object takes half a second.
    os._exit(status)
