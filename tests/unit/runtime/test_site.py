"""The site file: what is accepted, and what a person reads when something is wrong."""

from pathlib import Path

import pytest

from libs.runtime import site
from libs.runtime.errors import Misconfigured
from libs.runtime.secret_file import read_secret

GOOD = """
[site]
name = "NERSC"
contact = "ops@example.org"

[central_services]
ca = "/secrets/ca.pem"
certificate = "/secrets/hostcert.pem"
key = "/secrets/hostkey.pem"
account = "vobox"

[machine.perlmutter]
client_id_file = "/secrets/client_id"
client_key_file = "/secrets/key.pem"
user = "alicepro"

[ce.perlmutter-cpu]
name = "ALICE::NERSC::perlmutter-cpu"
host = "ce.example.org"
machine = "perlmutter"
[ce.perlmutter-cpu.batch]
account = "m0000"
qos = "regular"
directory = "/pscratch/vobox"
output = "/pscratch/vobox/%x.%a.out"
[ce.perlmutter-cpu.agent]
command = "run-agent"
token_file = "/cfs/token.sh"

[monitoring]
public_address = "relay.example.org:8884"
destinations = ["ml.example.org:8884"]

[credentials]
host_certificate_directory = "/cfs/hostcert"
token_file = "/cfs/token.sh"
"""


def load(tmp_path: Path, text: str) -> site.Site:
    path = tmp_path / "site.toml"
    path.write_text(text)
    return site.load(path)


def test_a_good_file(tmp_path: Path) -> None:
    """Everything that is not said has a default."""
    loaded = load(tmp_path, GOOD)
    assert loaded.ce["perlmutter-cpu"].limits.agents_per_submission == 500
    assert loaded.machine["perlmutter"].settle_time_s == 600.0
    assert loaded.bus.url == "nats://127.0.0.1:4222"


BAD = [
    ("misspelt", '[machine.perlmutter]\nsettle_tim_s = 1\n', "settle_tim_s: no such setting; did you mean 'settle"),
    ("qqq", "[monitoring]\nqqq = 1\n", "monitoring.qqq: no such setting; valid are "),
    ("unknown table", "[sight]\n", "sight: no such setting; did you mean 'site'?"),
    ("wrong type", '[machine.perlmutter]\nsettle_time_s = "long"\n', "Expected `float`, got `str`"),
    ("out of bounds", "[ce.perlmutter-cpu]\ngrid_jobs_per_agent = 0\n", "Expected `int` >= 1"),
    ("no path", "[credentials]\nhost_certificate_directory = 1\n", "expected a path, got int"),
    ("no such machine", '[ce.perlmutter-cpu]\nmachine = "perlmuter"\n', "did you mean 'perlmutter'?"),
    ("agents outlive their jobs", "[ce.perlmutter-cpu]\nttl_s = 90000\n", "must be below its batch.time_limit_s"),
    ("not TOML", "[", "is not TOML"),
    ("empty", None, "Object missing required field"),
]  # fmt: skip


@pytest.mark.parametrize(("added", "says"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_what_is_wrong_is_said(tmp_path: Path, added: str | None, says: str) -> None:
    """The file, the key, and the nearest valid name."""
    text = "" if added is None else merged(GOOD, added)
    with pytest.raises(Misconfigured) as raised:
        load(tmp_path, text)
    assert "site.toml" in str(raised.value)
    assert says in str(raised.value)


HOST = "[credentials.host_certificate]\n"
SOURCES = [
    ("acme without a server", HOST + 'source = "acme"\nnames = ["a"]\n', "set names and the table acme there"),
    (
        "acme without names",
        HOST + 'source = "acme"\nacme = { directory_url = "https://a/b", contact = "c" }\n',
        "set names",
    ),
    ("a request for nobody", HOST + 'source = "manual"\n', "set dn or names there"),
    (
        "half a binding",
        HOST + 'names = ["a"]\nacme = { directory_url = "https://a/b", contact = "c", eab_key_id = "k" }\n',
        "eab_key_id and eab_key_file of credentials.host_certificate.acme belong together",
    ),
    ("ACME in the clear", HOST + 'acme = { directory_url = "http://a/b", contact = "c" }\n', "matching regex"),
    ("no slash form", HOST + 'dn = "CN=host,O=site"\n', "matching regex"),
    ("a misspelt source", HOST + 'sorce = "acme"\n', "did you mean 'source'?"),
    ("misspelt in ACME", HOST + 'acme = { directory_ulr = "x", contact = "c" }\n', "did you mean 'directory_url'?"),
]  # fmt: skip


@pytest.mark.parametrize(("added", "says"), [case[1:] for case in SOURCES], ids=[case[0] for case in SOURCES])
def test_a_source_that_cannot_serve_is_said(tmp_path: Path, added: str, says: str) -> None:
    """What the source of the host certificate needs is there before the start."""
    with pytest.raises(Misconfigured) as raised:
        load(tmp_path, f"{GOOD}\n{added}")
    assert says in str(raised.value)


def test_the_drop_and_the_machine_must_be_known(tmp_path: Path) -> None:
    """A watched directory is named, and the token file's machine has a table."""
    with pytest.raises(Misconfigured, match=r"source is 'directory': set credentials\.host_certificate_directory"):
        load(tmp_path, GOOD.replace('host_certificate_directory = "/cfs/hostcert"\n', ""))
    with pytest.raises(Misconfigured, match="token_machine is 'perlmuter', which has no table; did you mean"):
        load(tmp_path, merged(GOOD, '[credentials]\ntoken_machine = "perlmuter"\n'))


def merged(good: str, added: str) -> str:
    """`added`'s lines put below its table's header in the good file, in place of settings of the same name."""
    header, _, lines = added.partition("\n")
    key = lines.partition(" =")[0]
    kept = [line for line in good.splitlines() if not line.startswith(f"{key} =")]
    if header not in kept:
        return good + added
    at = kept.index(header) + 1
    return "\n".join([*kept[:at], lines, *kept[at:]])


def test_two_ces_of_one_name(tmp_path: Path) -> None:
    """ALICE knows a CE by its full name: no two may share it."""
    second = GOOD[GOOD.index("[ce.") : GOOD.index("[monitoring]")].replace("perlmutter-cpu.", "gpu.")
    with pytest.raises(Misconfigured, match="two CEs have the same name"):
        load(tmp_path, GOOD + second.replace("[ce.perlmutter-cpu]", "[ce.gpu]"))


def test_at_least_one_ce(tmp_path: Path) -> None:
    """A site without a CE has nothing to do."""
    without = GOOD[: GOOD.index("[ce.")] + GOOD[GOOD.index("[monitoring]") :]
    with pytest.raises(Misconfigured, match="at least one CE"):
        load(tmp_path, without + "[ce]\n")


def test_missing_file(tmp_path: Path) -> None:
    """A missing file names the variable that points to it."""
    with pytest.raises(Misconfigured, match="NACRE_CONFIG"):
        site.load(tmp_path / "none.toml")


def test_environment() -> None:
    """Only known NACRE_ variables; others are nobody's business."""
    assert site.environment({"NACRE_CONFIG": "x", "HOME": "/"}).config == "x"
    with pytest.raises(Misconfigured, match="NACRE_confg: no such setting; did you mean 'config'"):
        site.environment({"NACRE_CONFG": "x"})


def test_secrets_are_named_not_shown(tmp_path: Path) -> None:
    """Missing and empty secret files are named with what they are for."""
    with pytest.raises(Misconfigured, match=r"API key: .*none cannot be read"):
        read_secret(tmp_path / "none", "API key")
    (tmp_path / "blank").write_text(" \n")
    with pytest.raises(Misconfigured, match="is empty"):
        read_secret(tmp_path / "blank", "API key")
    (tmp_path / "good").write_text("s3cret")
    assert read_secret(tmp_path / "good", "API key") == b"s3cret"


def test_the_example_is_good() -> None:
    """deploy/site.example.toml is a whole, valid site file."""
    assert site.load(Path(__file__).parents[3] / "deploy/site.example.toml").ce["perlmutter-cpu"].cores == 0


def test_shadow_mode_needs_limits_of_its_own(tmp_path: Path) -> None:
    """ALICE's limits are not asked in shadow mode, so the file must say them."""
    shadow = GOOD.replace('machine = "perlmutter"', 'machine = "perlmutter"\nmode = "shadow"')
    with pytest.raises(Misconfigured, match=r"shadow_max_jobs and shadow_max_queued in ce\.perlmutter-cpu\.limits"):
        load(tmp_path, shadow)
    limits = "[ce.perlmutter-cpu.limits]\nshadow_max_jobs = 100\nshadow_max_queued = 0\n"
    found = load(tmp_path, shadow + limits).ce["perlmutter-cpu"]
    assert (found.mode, found.limits.shadow_max_jobs, found.limits.shadow_max_queued) == ("shadow", 100, 0)
    assert load(tmp_path, GOOD).ce["perlmutter-cpu"].mode == "active"
