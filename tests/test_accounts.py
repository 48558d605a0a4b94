"""The accounts file: what can be read, what is wrong with it, and on which line."""

from collections.abc import Callable
from pathlib import Path

import keyring
import keyring.backend
import pytest

from masscancel import Accounts, ConfigurationError, ScopeError
from masscancel.calls import Scope

SECRET = "hush-hush-hush"  # no secret at all

GOOD = """
[[account]]
name = "mm-1"
venue = "binance"
categories = ["spot", "usdm"]
api_key = { env = "MM1_KEY" }
api_secret = { env = "MM1_SECRET" }
tags = { desk = "mm", strategy = "quotes" }

[account.options]
recv_window_ms = 3000

[[account]]
name = "arb-1"
venue = "okx"
categories = ["account", "swap", "spot"]
api_key = { file = "arb.key" }
api_secret = { file = "arb.secret" }
passphrase = { keyring = "exchange/okx/arb" }
tags = { desk = "arb" }
keep = ["conditional", "trigger"]
"""

Write = Callable[..., Path]


class Ring(keyring.backend.KeyringBackend):
    """A keyring that has one entry."""

    priority = 1

    def get_password(self, service: str, username: str) -> str | None:
        """The one entry's secret."""
        return SECRET if (service, username) == ("exchange/okx", "arb") else None

    def set_password(self, service: str, username: str, password: str) -> None:
        """Refuse: nothing here writes."""
        raise NotImplementedError


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes an accounts file; the secrets of the good one are where it says."""
    monkeypatch.setenv("MM1_KEY", "key-of-mm-1")
    monkeypatch.setenv("MM1_SECRET", SECRET)
    (tmp_path / "arb.key").write_text("key-of-arb-1\n")
    (tmp_path / "arb.secret").write_text(f" {SECRET}\n")
    keyring.set_keyring(Ring())  # type: ignore[no-untyped-call]

    def write_file(text: str, mode: int = 0o644) -> Path:
        path = tmp_path / "masscancel.toml"
        path.write_text(text)
        path.chmod(mode)
        return path

    return write_file


def test_what_the_file_says(write: Write) -> None:
    """Venue and settings, categories, tags, and secrets from their three places."""
    accounts = Accounts.load(write(GOOD))
    first, second = accounts
    assert (first.name, first.venue.name, first.categories) == ("mm-1", "binance", ("spot", "usdm"))
    assert getattr(first.venue, "recv_window_ms", None) == 3000
    assert first.tags == {"desk": "mm", "strategy": "quotes"}
    assert [each.line for each in accounts] == [2, 13]
    read = second.credentials()
    assert (read.api_key, read.api_secret, read.passphrase) == ("key-of-arb-1", SECRET, SECRET)
    assert read.label == "arb-1"


def test_the_smallest_set_that_covers(write: Write) -> None:
    """A category that contains another one is cancelled alone, so that each book comes once."""
    first, second = Accounts.load(write(GOOD))
    assert first.covering == ("spot", "usdm")
    assert second.covering == ("account",)


def test_books_that_are_kept(write: Write) -> None:
    """All but these are cancelled; where that can't be done, it is refused by name."""
    _, okx = Accounts.load(write(GOOD))
    books = okx.scope("account").books
    assert books is not None
    assert not {"conditional", "trigger"} & {*books}
    assert "ordinary" in books
    kraken = GOOD.replace('"binance"', '"kraken"').replace('"spot", "usdm"', '"spot"')
    kraken = kraken.replace("recv_window_ms = 3000", 'tier = "pro"').replace(
        'tags = { desk = "mm", strategy = "quotes" }', 'keep = ["stop"]'
    )
    path = write(kraken)
    with pytest.raises(ConfigurationError, match="line 8: Kraken can't leave out the book stop"):
        Accounts.load(path)
    [first, _] = Accounts.load(path, strict=False)
    with pytest.raises(ScopeError, match="can't leave out the book stop"):
        first.scope("spot")


def test_a_book_that_has_another_name_there_is_not_cancelled_silently(write: Write) -> None:
    """Whoever keeps "stop" where stops lie in "algo" would lose them; a lone book keeps nothing."""
    [first] = Accounts.load(write(GOOD.partition('[[account]]\nname = "arb')[0]))
    kept = Accounts.load(
        write(
            GOOD.partition('[[account]]\nname = "arb')[0].replace("tags", 'keep = ["algo"]\ntags')
        ),
        strict=False,
    )
    assert kept.accounts[0].scope("usdm") == Scope("usdm", None, ("ordinary",))
    with pytest.raises(ScopeError, match="algo can't be kept in spot of Binance, whose books are"):
        kept.accounts[0].scope("spot")
    assert first.scope("spot") == Scope("spot")


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('venue = "binance"', 'venue = "binnance"', "line 4: no venue 'binnance'; there are: asc"),
        ('venue = "binance"\n', "", "line 2: venue is missing, such as one of: binance, bitget"),
        ('name = "mm-1"', "name = 7", "line 3: name: expected str, got int"),
        ('name = "mm-1"', 'name = ""', "line 3: a name is printable text"),
        ('name = "mm-1"', 'name = "arb-1"', "line 14: the name stands there twice"),
        ('categories = ["spot", "usdm"]\n', "", "line 2: categories is missing: some of spot"),
        ('["spot", "usdm"]', "[]", "line 5: categories are some of spot, usdm"),
        ('"usdm"]', '"usdtm"]', "line 5: no account category 'usdtm' on Binance; there are"),
        ("tags =", 'keeep = ["stop"]\ntags =', "line 8: there is no 'keeep'; there are: name, ven"),
        ("tags =", 'keep = ["sotp"]\ntags =', "line 8: sotp can't be kept in spot of Binance"),
        ('{ env = "MM1_KEY" }', '{ env = "MM2_KEY" }', "line 6: api_key: set MM2_KEY in the"),
        ('{ env = "MM1_KEY" }', '{ evn = "MM1_KEY" }', "line 6: there is no 'evn'; there are: en"),
        ('{ env = "MM1_KEY" }', "{}", "line 6: api_key: write one of { env = }"),
        ('{ env = "MM1_KEY" }', f'"{SECRET}"', "line 6: api_key: it stands in this file, which "),
        ('{ file = "arb.key" }', '{ file = "no.key" }', "no.key can't be read: No such file"),
        ("exchange/okx/arb", "exchange/arb", "line 19: passphrase: the keyring has nothing for"),
        ("exchange/okx/arb", "arb", 'line 19: passphrase: a keyring is named "service/user"'),
        ("passphrase = {", "#", "line 13: passphrase is missing: a key of OKX has one"),
        ("recv_window_ms = 3000", "recv_window = 3000", "line 10: options: binance has no setting"),
        ("recv_window_ms = 3000", 'recv_window_ms = "3"', "options: recv_window_ms must be int"),
        (
            "[account.options]",
            "rates = { wait = 1 }\n[account.options]",
            "the venue has no limit 'wa",
        ),
        (
            "[[account]]",
            "[[accounts]]\n[[account]]",
            "line 2: there is no 'accounts': write [[a",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(
    write: Write, before: str, after: str, words: str
) -> None:
    """In one line; the other account can be read all the same, where a kill reads it."""
    text = GOOD.replace(before, after, 1)
    assert text != GOOD
    path = write(text)
    with pytest.raises(ConfigurationError) as caught:
        Accounts.load(path)
    said = str(caught.value)
    assert words in said
    assert said.startswith(str(path))
    assert "\n" not in said
    assert SECRET not in said
    lenient = Accounts.load(path, strict=False)
    assert len(lenient) >= 1
    for each in lenient.unreadable:
        assert str(path) in each.problem


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[account]\nname=", "is no TOML: .*line 1"),
        ("", "names no account: write"),
        ("[account]\nname = 'x'", "with two brackets"),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_a_file_of_which_nothing_can_be_read(
    write: Write, text: str, words: str, *, strict: bool
) -> None:
    """It is an error even for a kill: nobody can say what is meant."""
    with pytest.raises(ConfigurationError, match=words):
        Accounts.load(write(text), strict=strict)


def test_a_secret_in_the_file_itself(write: Write) -> None:
    """It counts if the owner alone can read the file, and is in no repr."""
    text = GOOD.replace('{ env = "MM1_SECRET" }', f'"{SECRET}"')
    accounts = Accounts.load(write(text, 0o600))
    assert accounts.accounts[0].credentials().api_secret == SECRET
    assert SECRET not in repr(accounts)
    assert SECRET not in repr([each.to_dict() for each in accounts])


def test_selectors(write: Write) -> None:
    """By name, venue, category and tag; a category narrows an account to it."""
    accounts = Accounts.load(write(GOOD))

    def names(*patterns: str, **rest: object) -> list[str]:
        return [each.name for each in accounts.select(*patterns, **rest)]  # type: ignore[arg-type]

    assert names() == ["mm-1", "arb-1"]
    assert names("mm-*") == ["mm-1"]
    assert names("mm-*", "arb-1") == ["mm-1", "arb-1"]
    assert names(venue="okx") == ["arb-1"]
    assert names(tags={"desk": "mm", "strategy": "quotes"}) == ["mm-1"]
    [narrowed] = accounts.select(category="usdm")
    assert narrowed.categories == ("usdm",)


@pytest.mark.parametrize(
    ("patterns", "rest", "words"),
    [
        (["mm-1", "mm-2"], {}, "has the name 'mm-2': mm-1, arb-1"),
        ([], {"venue": "kraken"}, "has the venue 'kraken': binance, okx"),
        ([], {"category": "margin"}, "has the category 'margin': spot, usdm, account, swap"),
        ([], {"tags": {"desk": "mn"}}, "has the tag 'desk=mn': desk=mm, strategy=quotes, desk=arb"),
        (["mm-*"], {"venue": "okx"}, "no account .* is all of that at once"),
    ],
)
def test_a_selector_that_matches_nothing(
    write: Write, patterns: list[str], rest: dict[str, object], words: str
) -> None:
    """The error has what there is: somebody has mistyped it."""
    accounts = Accounts.load(write(GOOD))
    with pytest.raises(ConfigurationError, match=words):
        accounts.select(*patterns, **rest)  # type: ignore[arg-type]


def test_what_cannot_be_read_is_left_out_only_where_it_is_not_meant(write: Write) -> None:
    """A nameless account may be the one that somebody selects; one of another name is not."""
    text = GOOD.replace('api_key = { env = "MM1_KEY" }\n', "")
    accounts = Accounts.load(write(text), strict=False)
    assert [each.name for each in accounts.unreadable] == ["mm-1"]
    assert [each.name for each in accounts.select("mm-*").unreadable] == ["mm-1"]
    assert accounts.select("arb-*").unreadable == ()
    nameless = Accounts.load(write(text.replace('name = "mm-1"\n', "")), strict=False)
    assert len(nameless.select("arb-*").unreadable) == 1


def test_where_the_file_is(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's, then that of the current folder, then that of the user."""
    path = write(GOOD)
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    with pytest.raises(ConfigurationError, match="no accounts file: neither"):
        Accounts.load()
    (tmp_path / "config" / "masscancel").mkdir(parents=True)
    users = path.rename(tmp_path / "config" / "masscancel" / "masscancel.toml")
    for name in ("arb.key", "arb.secret"):
        (tmp_path / name).rename(users.parent / name)
    assert Accounts.load().path == users
    monkeypatch.setenv("MASSCANCEL_ACCOUNTS", str(tmp_path / "elsewhere.toml"))
    with pytest.raises(ConfigurationError, match="can't be read: No such file"):
        Accounts.load()
