"""Where the answer stands in a completion."""

import pytest

from guerdon_rewards.extraction import COMMITTED, MARKS, Method, candidates, extract, read, reference, tutorial_answer
from guerdon_rewards.guesses import Sought, is_bare
from guerdon_rewards.number import parse_number


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
        ("hashes", "### Final Answer ###\n42", None),
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
        ("boxed", "so $\\boxed 5$.", "5"),
        ("boxed", "\\boxed{\\boxed{3}}", "3"),
        ("boxed", "the \\boxed command", None),
        ("boxed", "\\boxed{}", None),
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
        ("Put it in \\boxed{}. I get 42", "42", "last_number"),
        ("\\boxed{42}\n### Conclusion", "42", "boxed"),
        ("\\boxed{42}\n\nQuestion:\nWhat is 2 + 2?\n\\boxed{4}", "42", "boxed"),  # the model asks itself more
        ("Question: 6 * 7?\nAnswer: \\boxed{42}", "42", "boxed"),
        ("\\boxed{42}<|im_end|>\n<|im_start|>user\n\\boxed{4}", "42", "boxed"),
        ("<|im_start|>user\nUse \\boxed{}<|im_end|>\n<|im_start|>assistant\n\\boxed{42}<|im_end|>", "42", "boxed"),
        ("<|channel|>analysis<|message|>4?<|end|><|channel|>final<|message|>\\boxed{42}<|return|>", "42", "boxed"),
    ],
)
def test_marks_before_guesses_and_the_last_commitment_wins(completion: str, text: str, how: Method) -> None:
    found = extract(completion)
    assert found
    assert (found.text, found.how) == (text, how)


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        ("\\boxed{1}\\boxed{2}", "1, 2"),
        ("\\boxed{1},\\boxed{2},\\boxed{3}", "1, 2, 3"),
        ("\\boxed{1} and \\boxed{2} and \\boxed{3}", "1, 2, 3"),
        ("\\[ \\boxed{-2} \\quad \\text{and} \\quad \\boxed{1}. \\]", "-2, 1"),
        ("$x=\\boxed{1}$ or $x = \\boxed{2}$", "1, 2"),
        ("\\boxed{1} \\text{ for part (a) and } \\boxed{2}", "1, 2"),
        ("\\boxed{5} or \\boxed{5}", "5"),
        ("\\boxed{1} then \\boxed{2}", "2"),
        ("\\boxed{1} and and or thus but \\boxed{2}", "2"),
        ("Maybe \\boxed{1}. On reflection \\boxed{2}.", "2"),
        ("\\boxed{1}\n" * 9 + "\\boxed{2}", "1, 2"),
    ],
)
def test_boxes_beside_each_other_are_one_answer(completion: str, text: str) -> None:
    found = extract(completion)
    assert found and found.text == text
    assert found.parts == (tuple(text.split(", ")) if "," in text else ())


def test_boxes_keep_different_names() -> None:
    assert extract("$y = \\boxed{3}$, $x = \\boxed{4}$") == ("y = 3, x = 4", "boxed", ())


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        ("<answer>5</answer>\n<answer>7</answer>", "5, 7"),
        ("<answer>5</answer> or <answer>7</answer>", "5, 7"),
        ("<answer>5</answer><answer>5</answer>", "5"),
        ("<answer>\\boxed{5}</answer><answer>\\boxed{7}</answer>", "5, 7"),
        ("<answer>5</answer> No. <answer>7</answer>", "7"),
        ("It takes $\\boxed{5}$ hours.", "5 hours"),
        ("That is \\(\\boxed{5}\\) \\text{cm}^2.", "5 \\text{cm}^2"),
        ("A rise of \\boxed{5}\\%", "5 \\%"),
        ("There are $\\boxed{5}$ in total", "5"),
        ("There are \\boxed{5} apples", "5"),
        ("\\boxed{\\text{The answer is } 17}", "17"),
        ("\\boxed{\\text{The domain is } [2, 5)}", "[2, 5)"),
        ("\\boxed{\\text{The complement of } [2, 5)}", "\\text{The complement of } [2, 5)"),
    ],
)
def test_where_an_answer_of_any_kind_is_sought_marks_are_read_with_what_belongs_to_them(
    completion: str, text: str
) -> None:
    found = extract(completion, COMMITTED)
    assert found and found.text == text


BARE = ["x=2", "5.0", "1 hr 23 min", "\\frac{1}{2}", "7*sin(pi*x/5)+1", "$(-\\infty, 3)$", "\\emptyset", "k < -5"]
BARE += ["5 and 15", "Maximum = 2, Minimum = 1", "odd $n$", "$19$, $46$ and $82$", "\\$15,\\!000"]
BARE += ["7 \\text{ goats and } 4 \\text{ toys that are new}", "no solution", "μx+y = 76", "(−∞, 2] ∪ {3}"]
BARE += ["30 in. by 57 in.", "2 pm on the next day"]
PROSE = ["The result is $3$", "We find that $x \\neq 3$.", "Matrix: $A$", "First compute 6*7.\n42"]
PROSE += [
    "42 because I say so",
    "Il a déjà 79 g de cire",
    "共有99颗弹珠",
    "It is 5. Or 6?",
    "one two three four five six seven eight nine 9",
]


@pytest.mark.parametrize("text", BARE)
def test_a_bare_answer_is_taken_whole(text: str) -> None:
    assert is_bare(text)
    assert extract(text, COMMITTED) == (text, "clause", ())


@pytest.mark.parametrize("text", PROSE)
def test_prose_is_not_a_bare_answer(text: str) -> None:
    assert not is_bare(text)


@pytest.mark.parametrize(
    ("sought", "completion", "expected"),
    [
        ("any", "Therefore $x \\geq 5$ is the solution.", "$x \\geq 5$"),
        ("any", "So, the ordered pair $(x, y)$ that solves it is $(7, 6)$.", "$(7, 6)$"),
        ("any", "The roots are $x=2$ and $x=3$.", "$x=2$ and $x=3$"),
        ("any", "so x = 1 and y = 2", "x = 1 and y = 2"),
        ("any", "We get\n\\[\nx = \\frac{1}{2}\n\\]", "\\[\nx = \\frac{1}{2}\n\\]"),
        ("any", "Thus the answer is:\n\n$$\\frac{a}{b}$$\n", "$$\\frac{a}{b}$$"),
        ("any", "A matrix is found: $ \\begin{pmatrix}1\\end{pmatrix} $", "$ \\begin{pmatrix}1\\end{pmatrix} $"),
        ("any", "There is no solution.", "no solution"),
        ("any", '{"answer": "x + 1"}', "x + 1"),
        ("number", "First compute 6*7.\n42", "42"),
        ("number", "Final Answer: The final answer is $100$. I hope it is correct.", "$100$"),
        ("number", "Final Answer: The largest $n$ is 34.", "34"),
        ("number", "She has 12 apples, which is 3 more than Bob.", "12"),
        ("number", "the number is not 10 which is 1,000.99€", "1,000.99€"),
        ("number", "She sold 5 apples. She earned 15 dollars in all by that. Great!", "15"),
        ("number", "✅ Final Answer: **73**", "73"),
        ("number", "La réponse est 42 euros.", "42 euros"),
        ("number", "Réponse: Anne aura encore 220 $ à payer d'ici 12 mois.", "220"),
        ("number", "La probabilité est de **25%**.", "25%"),
        ("number", "因此，他的数学作业多 **3页**。", "3"),
        ("number", "答案：每份应该是 (\\frac{2}{5}) 吨。", "\\frac{2}{5}"),
        ("number", "水池中水将在300分钟内被放完。", "300"),
        ("number", "ناتج العملية 55 * 3 - 99 هو **66**.", "66"),
        ("number", "इसलिए, दुकान में अब 67 कमीजें हैं। ", "67"),
        ("choice", "The answer is for sure D, it can't be A or B", "D"),
        ("choice", "C. the third one", "C"),
        ("choice", "B。 不是 A", "B"),
        ("number", "Weng earned **$10** for 50 minutes of work.", "$10"),
        ("number", "So there are exactly **6** of them: 12, 21, 30.", "6"),
        ("number", "There are **six** such numbers.", "six"),
        ("number", "So John is 45 miles from home at the end of those 4 hours.", "45"),
        (
            "number",
            "He sold 48 in April and 24 in May, which makes 48 + 24 = 72 clips altogether.",
            "72 clips altogether",
        ),
        ("number", "The answer is simply $7$.", "$7$"),
        ("number", "The answer is 42. I hope this answer is helpful.", "42"),
        ("number", '{"answer": "1/2", "explanation": "half of 1"}', "1/2"),
        ("number", "La respuesta es que Juan tiene 13 manzanas.", "13"),
        ("any", "Thus it is **x = 2, y = -1**.", "x = 2, y = -1"),
        ("any", "So the equation has no solution.", "no solution"),
        ("choice", "选 C", "C"),
        ("choice", "**Correct option: D. None of the above**", "D"),
        ("choice", "A. too small\nB. fits\nSo the answer is B.", "B"),
        ("choice", "Thus, (B) is the correct choice.", "B"),
        ("choice", '{"answer": "B", "confidence": 0.9}', "B"),
        ("choice", "\\boxed{A \\text{ or } B}", "A \\text{ or } B"),
        ("choice", "(c)", "C"),
        ("choice", "So we pick option **D**", "D"),
        ("choice", "The answer can't be A. It must be C.", "C"),
        ("choice", "\\boxed{\\textbf{(B)}\\ 42}", "B"),
        ("choice", "The correct answer is (B) because A is wrong.", "B"),
        ("choice", "\\boxed{A, B, C, D}", "A, B, C, D"),
        ("text", "The answer is north.", "north"),
        ("text", "Yes, with p=3.", "Yes, with p=3."),
    ],
)
def test_what_a_completion_without_a_mark_commits_to(sought: Sought, completion: str, expected: str) -> None:
    found = extract(completion, COMMITTED, sought)
    assert found and found.text == expected


@pytest.mark.parametrize(
    "completion",
    [
        "It could be 7, 42, or 1000. I am not sure, maybe 42.",
        "I do not know.",
        "<think>\\boxed{42}</think> I do not know.",
        "The answer is not 42.",
        "It isn't 42.",
        "The answer might be 42.",
        "Is it 42?",
        "He has 41 or 42 of them in his pocket, that is all we can say",
        "The answer has 42 digits.",
        "If the answer were 42, the sum would be odd.",
        "Suppose the answer is 42.",
        "I don't think the answer is 42.",
        "The answer is 42. No wait, 43.",
        "The answer is 41. The answer is 42?",
        "We know that 3 + 39 = 42, and then we need to multiply this by the number of",
        "<think>We have \\boxed{42} perhaps. Let me check",
        "答案不是42。",
        "so the answer is \\boxed{42",
        "We go on and on. " * 40 + "So we count 42 of them and then we",
        "\\boxed{}",
        "",
    ],
)
def test_what_commits_to_nothing(completion: str) -> None:
    assert candidates(completion, sought="number") == []


@pytest.mark.parametrize("said", [
    "greater than 42", "a multiple of 42", "any number except 42", "the 42nd prime", "less than $42$",
    "given in step 42", "twice 42", "negative 42", "anything but 42",
    "a number close to 42 but smaller", "divisible by 42",
    "42 digits long", "the square root of 42", "42 more than twice the sum",
])  # fmt: skip
def test_a_number_among_words_that_change_it_is_no_answer(said: str) -> None:
    for text in (f"The answer is {said}.", f"It is {said}.", f"The value that we looked for is {said}, as we saw."):
        assert not {"42", "$42$"}.intersection(a.text for a in candidates(text, sought="number"))


NO_CHOICE = ["The answer is A and B", "The answer is A, B, C or D", "It is not C.", "Vitamin C is good."]
NO_CHOICE += ["Let D be the midpoint of BC. Then AD is a median of D.", "The integral equals $x^2 + C$ for all C in R."]
NO_CHOICE += [
    "The answer is E. The answer is D? No: E.",
    "The answer is B. Wait, no, it is C.",
    "A. too small\nB. right",
]


@pytest.mark.parametrize("completion", NO_CHOICE)
def test_no_letter_is_chosen(completion: str) -> None:
    assert candidates(completion, sought="choice") == []


def test_only_the_first_that_is_understood_counts() -> None:
    assert [a.text for a in candidates("Total 42 apples", sought="number")] == ["Total 42 apples", "42"]
    understood = read("Total 42 apples", parse_number, sought="number")
    assert understood and understood[0].text == "42"
    assert read("\\boxed{x} 42", parse_number) is None  # a mark is a commitment


@pytest.mark.parametrize(
    ("answer", "stated"),
    [
        ("42", "42"),
        ("$\\frac{1}{2}$", "\\frac{1}{2}"),
        ("$${1,2,3}$$", "{1,2,3}"),
        ("$1$ and $2$", "$1$ and $2$"),
        ("$12.55", "$12.55"),
        ("\\[ f(x) = x \\]", "f(x) = x"),
        ("answer is 0.6666667", "0.6666667"),
        ("So the answer is: \\[ \\boxed{11111111100} \\]", "11111111100"),
        ("\\(\\boxed{\\text{C}}\\).", "\\text{C}"),
        ("\\boxed{\n\\begin{pmatrix} 0 \\end{pmatrix}\n}.\n\\end{align*}", "\\begin{pmatrix} 0 \\end{pmatrix}"),
        ("$less than zero. Thus \\[ \\boxed{[-2, 7]} \\]$", "[-2, 7]"),
        ("$\\boxed{1}\\boxed{2}$", "1, 2"),
        ("\\boxed{W(n) = 1", "W(n) = 1"),
        ("48/2 = 24\n#### 24", "24"),
        ("C. the third one", "C. the third one"),
        ("72 boxes", "72 boxes"),
    ],
)
def test_what_a_reference_states(answer: str, stated: str) -> None:
    assert reference(answer) == stated


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
