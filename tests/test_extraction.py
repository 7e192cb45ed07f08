"""Where the answer stands in a completion."""

import pytest

from guerdon_rewards.extraction import MARKS, Method, extract, tutorial_answer


@pytest.mark.parametrize(
    ("method", "completion", "expected"),
    [
        ("hashes", "### 42 ###", "42"),
        ("hashes", "So ### 42 ### it is", "42"),
        ("hashes", "###42###", "42"),
        ("hashes", "### 42\n", "42"),
        ("hashes", "### 42\n###", "42"),
        ("hashes", "### Step 1\nfoo\n### 42 ###", "42"),
        ("hashes", "### 42\nmore", None),
        ("hashes", "#### 42", None),
        ("hashes", "###  ###", None),
        ("gsm8k", "48/2 = 24\n#### 72", "72"),
        ("gsm8k", "####72", "72"),
        ("gsm8k", "#### 1,234\n\nQuestion: more", "1,234"),
        ("gsm8k", "#### x + 1\n", "x + 1"),
        ("gsm8k", "#### Step 1: add\nIt is 8.", None),
        ("gsm8k", "### 42", None),
        ("boxed", "\\boxed{42}", "42"),
        ("boxed", "\\fbox{42}", "42"),
        ("boxed", "\\boxed {\\frac{1}{2}}", "\\frac{1}{2}"),
        ("boxed", "\\boxed{1} then \\boxed{2}", "2"),
        ("boxed", "\\boxed{1} then \\boxed{2", "1"),
        ("boxed", "\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("boxed", "\\boxed{", None),
        ("xml", "<answer>\n42\n</answer>", "42"),
        ("xml", "<answer>41</answer><answer>42</answer>", "42"),
        ("xml", "<answer>41</answer><answer>42", "41"),
        ("xml", "<answer>42", None),
        ("sentence", "The answer is 42.", "42"),
        ("sentence", "**Answer:** 42 apples. Good.", "42 apples"),
        ("sentence", "The final answer to the problem is\n$x+1$.", "$x+1$"),
        ("sentence", "The answer is 41. No: the answer is 3.5", "3.5"),
        ("sentence", "42", None),
        ("last_number", "3 and then -4.5, done", "-4.5"),
        ("last_number", "10-3", "3"),
        ("last_number", "H2O and 4_2", None),
        ("last_number", "it costs $1,234.50.", "$1,234.50"),
        ("last_number", "\\frac{3}{4}", "\\frac{3}{4}"),
        ("last_number", "none", None),
        ("whole", "  x+1\n", "x+1"),
        ("whole", " \n", None),
    ],
)
def test_one_method(method: Method, completion: str, expected: str | None) -> None:
    found = extract(completion, method)
    assert (found and found.text) == expected
    assert found is None or found.how == method


@pytest.mark.parametrize(
    ("completion", "text", "how"),
    [
        ("\\boxed{41}, no: ### 42 ###", "42", "hashes"),
        ("### 41 ###, no: \\boxed{42}", "42", "boxed"),
        ("<answer>\\boxed{42}</answer>", "42", "boxed"),
        ("<answer>The answer is 42.</answer>", "42", "xml"),
        ("#### \\boxed{42}", "42", "boxed"),
        ("\\boxed{42} took 3 steps; the answer is right", "42", "boxed"),
        ("The answer is 42. That took 3 steps.", "42", "sentence"),
        ("40 + 2 makes 42", "42", "last_number"),
        ("forty-two", "forty-two", "whole"),
        ("<think>\\boxed{41}</think>So 42", "42", "last_number"),
        ("\\boxed{41}</think>So 42", "42", "last_number"),
        ("<reasoning>41</reasoning><answer>42</answer>", "42", "xml"),
        ("<answer>42</answer><reasoning>or \\boxed{41}</reasoning>", "42", "xml"),
        ("<answer>42</answer><think>or \\boxed{41}", "42", "xml"),
        ("<think>\\boxed{42}</think>\n", "42", "boxed"),  # nothing else was written
    ],
)
def test_marks_before_guesses_and_the_last_commitment_wins(completion: str, text: str, how: Method) -> None:
    found = extract(completion)
    assert found
    assert (found.text, found.how) == (text, how)


def test_only_the_methods_asked_for() -> None:
    assert extract("The answer is 42", MARKS) is None
    assert extract("\\boxed{1} 2", ("last_number", "whole")) == extract("\\boxed{1} 2", "last_number")
    assert extract("") is None


def test_the_answer_is_found_behind_a_megabyte() -> None:
    found = extract("<think>" + "hmm \\boxed{1} " * 80_000 + "</think>\\boxed{42}")
    assert found and found.text == "42"


def test_the_tutorials_rule() -> None:
    texts = ["<answer>\n42\n</answer>", "42", "<answer>1</answer><answer>2", "a</answer>b"]
    assert [tutorial_answer(t) for t in texts] == ["42", "42", "2", "a"]
