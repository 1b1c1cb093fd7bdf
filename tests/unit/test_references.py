"""A customer's references in the one form in which they are compared, and texts that can always be encoded."""

from __future__ import annotations

import copy
import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiercast.event import CustomerRefs
from tiercast.ledger.identity import About, Finder, Identity
from tiercast.references import canonical, spellings
from tiercast.samples import envelope, sample_data
from tiercast.text import clean_json, clean_text

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("email", " Ada@Example.COM ", "ada@example.com"),
        ("email", "ada@example.com\u00a0", "ada@example.com"),
        ("email", "zoe\u0308@example.com", "zo\u00eb@example.com"),
        ("email", "a@B\u00dcCHER.example", "a@xn--bcher-kva.example"),
        ("email", "a@xn--bcher-KVA.example", "a@xn--bcher-kva.example"),
        ("email", "a@stra\u00dfe.example", "a@xn--strae-oqa.example"),
        ("email", "\u00e4\u00e4", "\u00e4\u00e4"),
        ("email", "\u00e4@" + "\u00fc" * 80, "\u00e4@" + "\u00fc" * 80),
        ("id", " cust_A\n", "cust_A"),
        ("source_id", "crm 7 ", "crm 7"),
        ("source_id", "zoe\u0308", "zoe\u0308"),
        ("email", "  ", ""),
    ],
)
def test_the_form_in_which_references_are_compared(kind: str, value: str, expected: str) -> None:
    assert canonical(kind, value) == expected


@settings(deadline=None, database=None)
@given(ANY_TEXT, st.sampled_from(["id", "source_id", "email"]))
def test_it_is_stable_and_never_raises(value: str, kind: str) -> None:
    once = canonical(kind, value)
    assert canonical(kind, once) == once
    spellings(kind, value)


@settings(deadline=None, database=None)
@given(st.text("aä@.é", max_size=8))
def test_normal_forms_and_case_make_no_difference_to_an_email(value: str) -> None:
    forms = {canonical("email", unicodedata.normalize(form, value)) for form in ("NFC", "NFD")}
    assert len(forms | {canonical("email", value.lower())}) == 1


def body(**customer: Any) -> bytes:
    return json.dumps(
        envelope("voucher.published", sample_data() | {"customer": customer}), ensure_ascii=False
    ).encode()


@pytest.mark.parametrize(
    ("given_name", "customer"),
    [
        ("ada@example.com", {"email": " ADA@example.com\u00a0"}),
        (" ada@example.com", {"email": "ada@example.com"}),
        ("zo\u00eb@example.com", {"email": "ZOE\u0308@example.com"}),
        ("zoe\u0308@example.com", {"email": "zo\u00eb@example.com"}),
        ("a@b\u00fccher.example", {"email": "a@xn--bcher-kva.example"}),
        ("a@xn--bcher-kva.example", {"email": "a@b\u00fccher.example"}),
        ("cust_ada ", {"id": "cust_ada"}),
        ("crm-77", {"source_id": " crm-77"}),
    ],
)
@pytest.mark.parametrize("ascii", [True, False])
def test_a_body_is_theirs_however_their_name_is_spelled(given_name: str, customer: dict[str, str], ascii: bool) -> None:
    text = body(**customer)
    if ascii:
        text = json.dumps(json.loads(text)).encode()
    about, _ = Finder(Identity(given_name)).about(text)
    assert about is About.THEIRS


def test_another_customers_body_is_not_theirs() -> None:
    finder = Finder(Identity("zo\u00eb@example.com"))
    assert finder.about(body(email="zoe@example.com"))[0] is About.NOT
    assert Finder(Identity("cust_1")).about(body(id="CUST_1"))[0] is not About.THEIRS


def test_the_customer_of_a_bare_body_that_looks_like_an_envelope_is_found() -> None:
    text = json.dumps({"id": "7", "type": "gold", "data": {"points": 5}, "customer": {"id": "cust_1"}}).encode()
    assert Finder(Identity("cust_1")).about(text) == (About.THEIRS, CustomerRefs(id="cust_1"))


# --- text


@pytest.mark.parametrize(
    ("text", "clean"),
    [("Ada", "Ada"), ("\ud83d", "\ufffd"), ("a\udc00b\ud800", "a\ufffdb\ufffd"), ("😀", "😀"), ("", "")],
)
def test_clean_text(text: str, clean: str) -> None:
    assert clean_text(text) == clean


@settings(deadline=None, database=None)
@given(st.text(st.characters(exclude_categories=[])))
def test_clean_text_can_be_encoded_and_changes_nothing_else(text: str) -> None:
    clean = clean_text(text)
    clean.encode()
    pairs = zip(text, clean, strict=True)
    assert all(new == ("\ufffd" if "\ud800" <= old <= "\udfff" else old) for old, new in pairs)


KEYS = st.text("a\ud800\udfff", max_size=2)
JSON = st.recursive(
    st.none() | st.booleans() | st.text(st.characters(exclude_categories=[]), max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None, database=None)
@given(JSON)
def test_clean_json_can_be_encoded_at_any_depth(value: Any) -> None:
    found: list[tuple[str, ...]] = []
    decoded = json.loads(json.dumps(value))
    was_clean = True
    try:
        json.dumps(decoded, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        was_clean = False

    clean = clean_json(copy.deepcopy(decoded), found.append)

    json.dumps(clean, ensure_ascii=False).encode()
    assert (found == []) is was_clean
    assert clean == decoded or not was_clean
