"""Keys and tokens without a stack: what is well-formed, what is kept, what is refused and how."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import secrets as randomness
import statistics
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.domain.catalog import ApiKey
from pipeline.gateway import credentials, tokens
from pipeline.gateway.credentials import SECRET, face_of, hint_of, key_hash, new_key
from pipeline.gateway.keys import SCOPES, KeyRing, credential_of, made_key, revoked_key, rolled_key
from pipeline.gateway.parts import Secrets
from pipeline.gateway.problems import Problem
from pipeline.gateway.tokens import LIFE_MS, Tokens

SECRETS = Secrets({"b": b"second-secret-second-secret", "a": b"first-secret-first-secret"})
NOW_MS = 1_790_000_000_000


class World:
    """A clock that stands still, a catalog that is a dict, and what looks at them."""

    def __init__(self, secrets: Secrets = SECRETS) -> None:
        self.now_ms = NOW_MS
        self.kept: dict[tuple[bool, str], ApiKey] = {}
        self.secrets = secrets
        self.ring = KeyRing(secrets, lambda livemode, key_id: self.kept.get((livemode, key_id)), lambda: self.now_ms)
        self.tokens = Tokens(secrets, self.ring, lambda: self.now_ms)

    def keep(self, one: ApiKey) -> ApiKey:
        self.kept[one.livemode, one.id] = one
        return one

    def key(self, **fields) -> tuple[str, ApiKey]:
        text, one = made_key(self.secrets, self.now_ms, **{"livemode": False, **fields})
        return text, self.keep(one)

    def session(self, text: str) -> str:
        return self.tokens.issue(self.ring.authenticate(f"Bearer {text}"), "ses").token


def refusal(check, authorization) -> tuple:
    with pytest.raises(Problem) as caught:
        check(authorization)
    problem = caught.value
    return problem.status, problem.body("v2"), dict(problem.headers or {})


def test_s1_a_key_shows_its_kind_and_mode_and_holds_more_than_160_random_bits():
    for kind, livemode, prefix in (
        (SECRET, True, "sk_live_"),
        (SECRET, False, "sk_test_"),
        ("restricted", True, "rk_"),
    ):
        key = new_key(kind, livemode=livemode)
        assert key.startswith(prefix)
        face = face_of(key)
        assert face is not None
        assert (face.kind, face.livemode) == (kind, livemode)
        assert 62**32 > 2**160
    assert len({new_key(SECRET, livemode=True) for _ in range(1000)}) == 1000


def test_s1_one_wrong_digit_anywhere_is_seen_without_asking_anybody():
    key = new_key(SECRET, livemode=False)
    for place in range(len("sk_test_"), len(key)):
        other = "x" if key[place] != "x" else "y"
        assert face_of(key[:place] + other + key[place + 1 :]) is None
    for text in ("", "sk_test_", key[:-1], key + "0", key.replace("test", "live"), key + "\n", "mk" + key[2:]):
        assert face_of(text) is None


def test_s1_the_object_that_is_kept_says_nothing_of_the_secret_digits():
    text, one = made_key(SECRETS, NOW_MS, livemode=True, name="billing")
    kept = json.dumps(dataclasses.asdict(one))
    secret_digits = text[20:-6]
    assert text not in kept
    assert not any(secret_digits[start : start + 6] in kept for start in range(len(secret_digits) - 5))
    assert hint_of(text)[:-4] == "sk_live_…"
    assert one.hash == key_hash(SECRETS.by_kid["b"], text) != hashlib.sha256(text.encode()).hexdigest()


def well_formed(public: str) -> str:
    """A key with this public part, its other digits by chance, and the checksum that belongs to them."""
    text = f"sk_test_{public}{randomness.token_hex(16)}"
    return text + credentials._check_digits(text)


def test_s1_a_hundred_thousand_random_keys_are_refused():
    world = World()
    text, one = world.key()
    assert world.ring.authenticate("Bearer " + text).id == one.id
    for number in range(100_000):
        near = number % 2 == 0
        key = well_formed(one.id.removeprefix("key_") if near else randomness.token_hex(6))
        assert face_of(key) is not None
        with pytest.raises(Problem):
            world.ring.authenticate("Bearer " + key)


def test_s1_a_near_miss_takes_as_long_as_a_random_key():
    """Medians within half of each other: an early return would be several times faster."""
    world = World()
    _, one = world.key()

    def took_s(key: str) -> float:
        start = time.perf_counter()
        with pytest.raises(Problem):
            world.ring.authenticate("Bearer " + key)
        return time.perf_counter() - start

    keys = (well_formed(one.id.removeprefix("key_")), well_formed("0" * 12))
    pairs = [[took_s(key) for key in keys] for _ in range(2_000)]  # in turn: the machine is as busy for the one
    near, unknown = (statistics.median(times) for times in zip(*pairs[100:], strict=True))
    assert max(near, unknown) < 1.5 * min(near, unknown)


def test_basic_and_bearer_name_the_same_key():
    world = World()
    text, one = world.key()
    basic = base64.b64encode(f"{text}:".encode()).decode()
    for header in (f"Bearer {text}", f"bearer  {text} ", f"Basic {basic}", f"BASIC {basic}"):
        assert world.ring.authenticate(header).id == one.id


def test_s11_every_key_that_does_not_stand_gets_the_same_answer():
    world = World()
    text, _ = world.key()
    gone, revoked = world.key()
    world.keep(revoked_key(NOW_MS, revoked))
    late, _ = world.key(expires_at_ms=NOW_MS)
    other = World(Secrets({"c": b"another-deployment"})).key()[0]
    wrong = (gone, late, other, "sk_test_nonsense", "x" * 64_000, text[:-1], text.replace("test", "live"), "\x00", "é")
    answers = {json.dumps(refusal(world.ring.authenticate, f"Bearer {key}")) for key in wrong}
    assert len(answers) == 1
    assert not any(key[:12] in answer for key in wrong for answer in answers if len(key) > 12)
    assert {refusal(world.ring.authenticate, none)[0] for none in (None, "", "Bearer", "Digest x", "Basic %%%")} == {
        401
    }


def test_s6_a_rolled_key_overlaps_and_then_ends_and_a_revoked_one_ends_at_once():
    world = World()
    text, old = world.key(scopes=["events:write"])
    new_text, new, ending = rolled_key(SECRETS, NOW_MS, old, 3_600_000)
    world.keep(new)
    world.keep(ending)
    assert (new.kind, new.scopes, new.rolled_from) == ("restricted", ("events:write",), old.id)
    world.now_ms = NOW_MS + 3_599_999
    assert world.ring.authenticate(f"Bearer {text}").id == old.id
    assert world.ring.authenticate(f"Bearer {new_text}").scopes == frozenset({"events:write"})
    world.now_ms += 1
    assert refusal(world.ring.authenticate, f"Bearer {text}")[0] == 401
    assert world.ring.authenticate(f"Bearer {new_text}").id == new.id
    world.keep(revoked_key(world.now_ms, new))
    assert refusal(world.ring.authenticate, f"Bearer {new_text}")[0] == 401
    _, _, sooner = rolled_key(SECRETS, NOW_MS, ending, 10 * 3_600_000)
    assert sooner.expires_at_ms == ending.expires_at_ms, "rolling never prolongs"


def test_s4_a_secret_key_may_everything_and_a_restricted_one_what_it_was_given():
    world = World()
    assert world.ring.authenticate(f"Bearer {world.key()[0]}").scopes == frozenset(SCOPES)
    for scope in SCOPES:
        assert world.ring.authenticate(f"Bearer {world.key(scopes=[scope])[0]}").scopes == {scope}
    assert world.ring.authenticate(f"Bearer {world.key(scopes=[])[0]}").scopes == frozenset()


def test_keys_made_under_a_secret_that_still_stands_in_the_list_are_known_and_no_others():
    before = World(Secrets({"old": b"the-old-secret-of-all"}))
    text, one = before.key()
    token = before.session(text)
    both = World(Secrets({"new": b"the-new-secret-of-all", "old": b"the-old-secret-of-all"}))
    both.keep(one)
    assert both.ring.authenticate(f"Bearer {text}").id == one.id
    assert both.tokens.authenticate(f"Bearer {token}").id == one.id
    after = World(Secrets({"new": b"the-new-secret-of-all"}))
    after.keep(one)
    assert refusal(after.ring.authenticate, f"Bearer {text}")[0] == 401
    assert refusal(after.tokens.authenticate, f"Bearer {token}")[0] == 401


def constant_refusal() -> tuple:
    return refusal(World().tokens.authenticate, "Bearer nothing")


@pytest.mark.parametrize("livemode", [True, False])
def test_s8_a_token_stands_for_its_parent_key_for_fifteen_minutes_on_any_gateway(livemode):
    world = World()
    text, one = world.key(livemode=livemode)
    session = world.tokens.issue(world.ring.authenticate(f"Bearer {text}"), "ses")
    assert session.expires_at_ms - session.created_ms == LIFE_MS == 900_000
    elsewhere = World()
    elsewhere.keep(one)
    for late_ms in (0, LIFE_MS - 1_000, LIFE_MS - 1):
        elsewhere.now_ms = NOW_MS + late_ms
        caller = elsewhere.tokens.authenticate(f"Bearer {session.token}")
        assert (caller.id, caller.livemode, caller.scopes) == (one.id, livemode, {"events:write"})


def test_s8_an_expired_token_says_so_in_stripes_words():
    world = World()
    token = world.session(world.key()[0])
    for late_ms in (LIFE_MS, LIFE_MS + 1_000, 10 * LIFE_MS):
        world.now_ms = NOW_MS + late_ms
        status, body, _ = refusal(world.tokens.authenticate, f"Bearer {token}")
        assert status == 401
        assert body["error"]["type"] == "temporary_session_expired"
        assert body["error"]["code"] == "billing_meter_event_session_expired"
        assert body["error"]["message"]
        assert body["error"]["doc_url"]


def test_s8_a_token_from_a_clock_that_is_far_ahead_is_refused_and_one_from_a_little_ahead_is_not():
    world = World()
    token = world.session(world.key()[0])
    world.now_ms = NOW_MS - 30_000
    assert world.tokens.authenticate(f"Bearer {token}")
    world.now_ms -= 1
    assert refusal(world.tokens.authenticate, f"Bearer {token}") == constant_refusal()


def forged(kid: str, claims: bytes, key: bytes, head: str = "mss_") -> str:
    def part(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    signed = f"{head}{part(kid.encode())}.{part(claims)}"
    return f"{signed}.{part(hmac.digest(key, signed.encode(), hashlib.sha256))}"


def test_s8_other_algorithms_other_kids_and_other_claims_are_refused_alike():
    world = World()
    text, one = world.key()
    token = world.session(text)
    claims = json.loads(tokens._decoded(token.split(".")[1]))
    good_key = world.tokens._mac_keys["b"]
    kid_part, claims_part, mac_part = token.removeprefix("mss_").split(".")

    def b64(document) -> str:
        return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")

    wrong = [
        f"{b64({'alg': 'none'})}.{claims_part}.",
        f"{b64({'alg': 'HS256', 'kid': 'b'})}.{claims_part}.{mac_part}",
        f"mss_{b64({'alg': 'RS256'})}.{claims_part}.{mac_part}",
        f"mss_{kid_part}.{claims_part}.",
        f"mss_{kid_part}.{claims_part}",
        f"{kid_part}.{claims_part}.{mac_part}",
        token + "=",
        token + "A",
        token * 200,
        "mss_" + "A" * 64_000,
        text,
        forged("../../", json.dumps(claims).encode(), good_key),
        forged("a", json.dumps(claims).encode(), good_key),
        forged("b", json.dumps(claims).encode(), b""),
        forged("b", json.dumps(claims).encode(), SECRETS.by_kid["b"]),
        forged("b", json.dumps(claims | {"aud": "api"}).encode(), good_key),
        forged("b", json.dumps(claims | {"scope": "meters:write"}).encode(), good_key),
        forged("b", json.dumps(claims | {"livemode": True}).encode(), good_key),
        forged("b", json.dumps(claims | {"key": "key_somebodyelse"}).encode(), good_key),
        forged("b", json.dumps(claims | {"nbf": NOW_MS + 1}).encode(), good_key),
    ]
    assert world.tokens.authenticate(f"Bearer {forged('b', json.dumps(claims).encode(), good_key)}").id == one.id
    for bad in wrong:
        assert refusal(world.tokens.authenticate, f"Bearer {bad}") == constant_refusal(), bad[:80]
    for none in (None, "", "Bearer ", "Basic !!"):
        assert refusal(world.tokens.authenticate, none) == constant_refusal()


WORLD = World()
TOKEN = WORLD.session(WORLD.key()[0])


@given(st.integers(0, len(TOKEN) * 8 - 1))
@settings(max_examples=2000, deadline=None)
def test_s8_no_bit_of_a_token_can_be_flipped(bit):
    raw = bytearray(TOKEN.encode())
    raw[bit // 8] ^= 1 << bit % 8
    assert refusal(WORLD.tokens.authenticate, "Bearer " + raw.decode("latin-1")) == constant_refusal()


@settings(deadline=None)
@given(st.integers(0, len(TOKEN) - 1), st.text(max_size=3))
def test_s8_a_token_that_is_cut_or_grown_is_refused(length, grown):
    assert refusal(WORLD.tokens.authenticate, "Bearer " + TOKEN[:length]) == constant_refusal()
    if grown.strip():
        assert refusal(WORLD.tokens.authenticate, "Bearer " + TOKEN + grown) == constant_refusal()


def test_s9_a_token_dies_with_its_parent_key_and_is_no_key_itself():
    world = World()
    text, one = world.key()
    token = world.session(text)
    assert refusal(world.ring.authenticate, f"Bearer {token}")[0] == 401, (
        "a token mints no token and opens nothing else"
    )
    world.keep(revoked_key(NOW_MS, one))
    assert refusal(world.tokens.authenticate, f"Bearer {token}") == constant_refusal()


def test_s9_a_token_dies_when_its_parent_expires():
    world = World()
    text, _ = world.key(expires_at_ms=NOW_MS + 1000)
    token = world.session(text)
    assert world.tokens.authenticate(f"Bearer {token}")
    world.now_ms += 1000
    assert refusal(world.tokens.authenticate, f"Bearer {token}") == constant_refusal()


def test_a_header_that_nobody_can_read_names_no_key():
    assert credential_of("Basic " + base64.b64encode(b"\xff\xfe").decode()) == ""
    assert credential_of("Bearer") == ""
    assert credential_of("Bearer a b") == "a b"


def test_h7_nobody_is_let_in_while_it_is_not_known_which_keys_stand():
    """FAULTS H7: authentication fails closed, with an answer that asks to try again."""
    world = World()
    text, _ = world.key()
    token = world.session(text)
    said: list[str | None] = ["reading the catalog"]
    ring = KeyRing(
        SECRETS, lambda livemode, key_id: world.kept.get((livemode, key_id)), lambda: NOW_MS, lambda: said[0]
    )
    closed = Tokens(SECRETS, ring, lambda: NOW_MS)
    for check, credential in ((ring.authenticate, text), (closed.authenticate, token)):
        status, _, headers = refusal(check, f"Bearer {credential}")
        assert (status, headers["stripe-should-retry"]) == (503, "true")
    said[0] = None
    assert ring.authenticate(f"Bearer {text}").id == closed.authenticate(f"Bearer {token}").id
