"""Chat templates: what they write is what transformers 5.24 writes (checked by hand), and what they take is bounded."""

import json
from pathlib import Path

import pytest

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.tokenizer import chat
from edgeemu_kernels.tokenizer.chat import Chat, ChatTemplate
from edgeemu_kernels.tokenizer.render_process import render_all

SYSTEM = {"role": "system", "content": "Be <kind>."}
USER = {"role": "user", "content": 'Is "é" & 日 <b>one</b>?'}
VARIABLES = {"bos_token": "<s>", "eos_token": "</s>"}
ORIGIN = Path("model/tokenizer_config.json")


def template(source: str | None, **more: tuple[str, ...]) -> ChatTemplate:
    return ChatTemplate(source, VARIABLES, ORIGIN, **more)


def rendered(source: str, messages: Chat = (USER,), date: str | None = None) -> str:
    """Render in this process, without limits."""
    job = {"template": source, "variables": VARIABLES, "date": date}
    [answer] = render_all(job, [json.dumps(messages)])
    return answer["text"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ tools is none }} {{ documents is none }} {{ builtin_tools is defined }}", "True True False"),
        ("{{ add_generation_prompt }} {{ messages[0].name is defined }}", "True False"),
        ("{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}{{ pad_token }}", "<s></s>False"),
        ("{{ messages | tojson }}", '[{"role": "user", "content": "Is \\"é\\" & 日 <b>one</b>?"}]'),
        ("{{ {'b': 1, 'a': '<é>'} | tojson(indent=1, sort_keys=true) }}", '{\n "a": "<é>",\n "b": 1\n}'),
        ("{{ ['é'] | tojson(ensure_ascii=true, separators=(',', ':')) }}", '["\\u00e9"]'),
        ("a {% generation %} x{% endgeneration %} b", "a  x b"),
        ("a {%- generation -%} x {%- endgeneration -%} b", "axb"),
        ("{% for n in [1, 2, 3] %}{% if n == 2 %}{% continue %}{% endif %}{{ n }}{% endfor %}", "13"),
        ("{% for n in [1, 2, 3] %}{% if n == 2 %}{% break %}{% endif %}{{ n }}{% endfor %}", "1"),
        (
            "{% for m in messages %}\n    {{- m.role }}\n  {% if loop.last %}\nlast\n  {% endif %}\n{% endfor %}\n",
            "user\nlast\n",
        ),
        ("{% set ns = namespace(n=1) %}{% set ns.n = ns.n + 1 %}{{ ns.n }}", "2"),
        ("{{ dict(a=1) }}{{ dict.fromkeys([1], 0) }}", "{'a': 1}{1: 0}"),
        ("{{ '<b>' | escape }}{{ '<b>' }}", "&lt;b&gt;<b>"),
        ("{{ 'no strftime' if strftime_now is not defined }}{{ strftime_now('%d %b %Y') }}", "31 Jan 2026"),
        ("end\n\n", "end\n"),
    ],
)
def test_a_template_sees_what_it_sees_in_transformers(source: str, expected: str) -> None:
    assert rendered(source, date="2026-01-31") == expected


def test_chats_are_rendered_in_their_order_by_one_process() -> None:
    source = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}"
    assert template(source).render([[USER], [SYSTEM, USER]], None) == [
        f"<s>[user]{USER['content']}</s>",
        f"<s>[system]{SYSTEM['content']}</s>[user]{USER['content']}</s>",
    ]
    assert template("{{ broken").render([], None) == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("{% if", "chat template, line 1: "),
        ("a\n{% do 1 %}", "chat template, line 2: Encountered unknown tag 'do'"),
        ("a\n\n{{ messages[0].content + 1 }}", "chat template, line 3: TypeError: "),
        ("{{ [1, 2] | random }}", "chat template, line 1: No filter named 'random'"),
        ("{{ lipsum() }}", "chat template, line 1: 'lipsum' is undefined"),
        ("{{ 1 / 0 }}", "chat template, line 1: ZeroDivisionError: division by zero"),
        ("{{ raise_exception('no system role') }}", "chat template, line 1: no system role"),
        ("{{ nothing.x }}", "chat template, line 1: 'nothing' is undefined"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "is nested too deep"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "is nested too deep"),
        ("{{ ''.__class__.__mro__ }}", "chat template, line 1: access to attribute '__class__'"),
        ("{{ messages.append(1) }}", "chat template, line 1: access to attribute 'append'"),
        ("{{ namespace(_x=1) }}", "chat template, line 1: '_x' may not be an attribute"),
        ("{% include '/etc/passwd' %}", "chat template, line 1: TypeError: no loader"),
        ("{{ strftime_now('%Y') }}", "chat template, line 1: writes the date, and none was given"),
        ('{{ "\\ud800" }}', "chat template: UnicodeEncodeError"),
        ("{{ 'x' * 10**9 }}", "chat template, line 1: takes too much memory"),
        (
            "{% set ns = namespace(x='a') %}{% for i in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
            "too much memory",
        ),
        ("{{ '%0999999999d' | format(1) }}", "takes too much memory"),
        ("{{ 'x' * 2**25 }}", "chat template: writes 33554432 characters for a chat of "),
    ],
)
def test_what_a_template_does_wrong_is_its_files_fault(source: str, problem: str) -> None:
    with pytest.raises(ModelFileError) as refused:
        template(source).render([[USER]], None)
    assert str(refused.value).startswith(f"{ORIGIN}: chat template")
    assert problem in str(refused.value)


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 9 ** (9 ** 9) }}",  # one call of C code, which Python cannot interrupt
    ],
)
def test_a_template_that_does_not_end_is_ended(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "_CPU_S", 0.1)
    with pytest.raises(ModelFileError, match="chat template: takes too long"):
        template(source).render([[USER]], None)


def test_none_of_several_templates_is_taken_at_random() -> None:
    with pytest.raises(ModelFileError, match=r"has several \(rag, tools\), and none is the default"):
        template(None, names=("rag", "tools")).render([[USER]], None)
