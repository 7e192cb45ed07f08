"""What answers say: names and their values, quantities, units, remarks, matrices computed with.

The reference stands on the left.
"""

import time

import pytest

from guerdon_rewards.mathematics.verdict import compared

EQUAL = r"""
AB = 5  ==  BA = 5
AB = 5  ==  \overline{AB} = 5
AB = 5  ==  |AB| = 5
AB = 5  ==  5
5  ==  AB = 5
\angle ABC = 60^\circ  ==  \angle CBA = 60^\circ
\angle ABC = 60^\circ  ==  60
\angle ABC = 60^\circ  ==  \angle B = 60^\circ
m\angle ABC = 60^\circ  ==  \angle ABC = 60^\circ
60^\circ  ==  \angle A = 60^\circ
\text{mean} = 3, \text{median} = 5  ==  \text{median} = 5, \text{mean} = 3
Alice: 3, Bob: 5  ==  Bob: 5, Alice: 3
A: 5, B: 12  ==  A = 5, B = 12
x = 2, y = 3  ==  (2, 3)
x = 2, y = 3  ==  y = 3, x = 2
xy = 1  ==  yx = 1
F = ma  ==  F = am
E = mc^2  ==  mc^2
P(A) = 1/2  ==  1/2
1/2  ==  P(A \mid B) = \frac12
f(x) = 2x  ==  f(t) = 2t
5 \text{ MW}  ==  5000 kW
3 \text{ MHz}  ==  3000000 Hz
10 \text{ k}\Omega  ==  10000 ohms
5 km  ==  5 KM
5 kg  ==  5 Kg
5 mL  ==  5 ml
5 \text{ m/s}  ==  5\ \mathrm{m\,s^{-1}}
2.5 \text{ eV}  ==  2.5 eV
\$5  ==  500 cents
5 \text{ m}  ==  5 meters
5 \text{ s}  ==  5
12  ==  x = 12
5  ==  |z| = 5
-\frac{1}{2}  ==  \cos\theta = -\frac12
7  ==  a + b = 7
7  ==  m + n = 3 + 4 = 7
12  ==  \frac{a+b}{c} = 12
\frac{3}{5}  ==  \frac{AB}{BC} = \frac35
24  ==  [ABCD] = 24
24  ==  S_{\triangle ABC} = 24
11  ==  x \approx 11
x = 11  ==  x = 5+5+1 = 11
11  ==  5+5+1 = 11
21  ==  twenty-one
121  ==  one hundred twenty-one
2/3  ==  two-thirds
2.5  ==  two and a half
1/2  ==  one half
320000  ==  3.2 x 10^5
24  ==  \Gamma(5)
(1,2)  ==  \langle 1,2 \rangle
(1,5]  ==  ]1,5]
(1,5)  ==  ]1,5[
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}  ==  [[1,2],[3,4]]
-2  ==  \begin{vmatrix} 1 & 2 \\ 3 & 4 \end{vmatrix}
-2  ==  \det \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}
\begin{pmatrix} 2 & 4 \\ 6 & 8 \end{pmatrix}  ==  2\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}
\begin{pmatrix} 7 & 10 \\ 15 & 22 \end{pmatrix}  ==  \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}^2
\begin{pmatrix} -2 & 1 \\ 3/2 & -1/2 \end{pmatrix}  ==  \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}^{-1}
\begin{pmatrix} 1 & 3 \\ 2 & 4 \end{pmatrix}  ==  \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}^T
\begin{pmatrix} 1/2 \\ 1 \end{pmatrix}  ==  \frac12 \begin{pmatrix} 1 \\ 2 \end{pmatrix}
(\pm 3, 0)  ==  (3,0), (-3,0)
(0, \pm\sqrt5)  ==  (0, \sqrt5) and (0, -\sqrt5)
\{1,2,3\}  ==  1, 2, 3
\text{True}  ==  \{1\} \subset \{1,2\}
e  ==  \text{e}
(1,2),(3,4)  ==  (3,4),(1,2),(1,2)
f^{-1}(x) = \frac{x-3}{2}  ==  \frac{x-3}{2}
f^{-1}(x) = \frac{x-3}{2}  ==  y = \frac{x-3}{2}
y' = 2x  ==  \frac{dy}{dx} = 2x
y'' = 6x  ==  \frac{d^2y}{dx^2} = 6x
1 + \sqrt3 i  ==  2\operatorname{cis}(60^\circ)
x \in \mathbb{R}, x \ne 2  ==  (-\infty,2)\cup(2,\infty)
\mathbb{R} \setminus \{-2,2\}  ==  x \ne \pm 2
\mathbb{R} \setminus \{-2,2\}  ==  x \ne 2, x \ne -2
\{2k \mid k \in \mathbb{Z}\}  ==  \{2m : m \in \mathbb{Z}\}
\mathbb{Z}^+  ==  \{n \in \mathbb{Z} \mid n \ge 1\}
k\pi, k \in \mathbb{Z}  ==  n\pi (n \in \mathbb{Z})
x = \frac{\pi}{2} + 2k\pi, k \in \mathbb{Z}  ==  \frac{\pi}{2} + 2n\pi
2:3  ==  2 to 3
2:3  ==  4:6
x \equiv 3 \pmod 7  ==  x \equiv 10 \pmod{7}
A \subset B  ==  B \supset A
(a,b) = (2,5)  ==  a = 2, b = 5
(a,b) = (2,5)  ==  (2,5)
(2,3), (3,2)  ==  x = 2, y = 3 or x = 3, y = 2
12\frac12\%  ==  12.5\%
33\frac13\%  ==  \frac13
3\sqrt{2} \text{ m}  ==  3\sqrt2 \mathrm{~m}
\begin{cases} x = 1 \\ y = 2 \end{cases}  ==  (1, 2)
\begin{cases} x = 1 \\ y = 2 \end{cases}  ==  x = 1, y = 2
9 \text{ square units}  ==  9
(-\infty,-1) \cup (4,\infty)  ==  (-oo,-1) U (4,oo)
1.5 \times 10^8 \text{ m}  ==  1.5e8 m
\{x \mid x > 2\}  ==  x > 2
x > 2  ==  2 < x
\frac{1}{2}x + C  ==  \frac{x}{2} + C
x^2 + y^2 = 25  ==  x^2 + y^2 - 25 = 0
y = 2x + 1  ==  2x - y + 1 = 0
y = 2x + 1  ==  2x + 1
3\mathbf{i} - 4\mathbf{j}  ==  (3,-4)
3\hat{\imath} - 4\hat{\jmath}  ==  \langle 3,-4\rangle
n!  ==  n \cdot (n-1)!
\binom{5}{2}  ==  10
{}_5C_2  ==  10
C(5,2)  ==  10
P(X=2) = 0.25  ==  1/4
x = 1 or x = 2  ==  x = 1, x = 2
x = 1 or x = 2  ==  \{1, 2\}
\max = 5, \min = 3  ==  \min = 3, \max = 5
Minimum: 1, Maximum: 2  ==  Maximum = 2, Minimum = 1
72^\circ  ==  72 degrees
\text{5 feet 6 inches}  ==  66 inches
12^{\text{th}}  ==  12th
\frac{\pi}{4}  ==  45^\circ = \frac\pi4
\sqrt{2}  ==  \sqrt2 \approx 1.414
v = 20 \text{ m/s}  ==  20 m/s
V = 36\pi  ==  36\pi
V = 36\pi \text{ cm}^3  ==  36 \pi
10  ==  C(5,2)
C(5,2)  ==  (5,2)
\text{all real numbers except } 2  ==  \mathbb{R} \setminus \{2\}
\text{all real numbers except } 2  ==  x \ne 2
\text{Area} = 12  ==  A = 12
\text{Area} = 12 \text{ cm}^2  ==  12
12  ==  \text{The area is } 12
x = 3  ==  \text{so } x = 3
\text{Amy}=5, \text{Ben}=7  ==  Ben = 7, Amy = 5
a:b = 2:3  ==  2:3
a:b:c = 1:2:3  ==  1:2:3
\frac{a}{b} = \frac{2}{3}  ==  \frac{a}{b}=\frac{4}{6}
\frac{2}{3}  ==  \frac{a}{b} = \frac{2}{3}
\tan\alpha = 2  ==  \tan \alpha = 2
|\vec{a}| = 3  ==  3
3  ==  |\vec{a}| = 3
-6  ==  \vec{a}\cdot\vec{b} = -6
E(X) = \frac{7}{2}  ==  3.5
n = 4  ==  4
S_n = n^2  ==  n^2
a_n = 2n - 1  ==  2n-1
a_n = 2n - 1 (n \in \mathbb{N}^*)  ==  a_n = 2n-1
a_n = 2n - 1, n \in \mathbb{N}^*  ==  2n-1
A \cap B = \{1,2\}  ==  \{1,2\}
\{1,2\}  ==  A \cap B = \{2, 1\}
A = \{1,2\}  ==  \{1,2\}
(-1, 2]  ==  A \cup B = (-1, 2]
x_1 = 1, x_2 = 3  ==  x = 1, x = 3
x_1 = 1, x_2 = 3  ==  1, 3
x = 1, 3  ==  x = 1 or x = 3
x = \pm 2  ==  \pm 2
x = \pm 2  ==  x = 2, -2
x \in \{1, 2\}  ==  x = 1 or x = 2
2 < x < 5  ==  (2, 5)
\frac{x^2}{4} + y^2 = 1  ==  x^2 + 4y^2 = 4
y - 1 = 2(x - 3)  ==  y = 2x - 5
y^2 = 4x  ==  4x = y^2
(x-1)^2 + (y+2)^2 = 9  ==  (x-1)^2+(y+2)^2=3^2
\overrightarrow{AB} = (1,2)  ==  (1,2)
\lambda = 2  ==  2
\begin{bmatrix} 1 & 0 \\ 0 & 1 \end{bmatrix}  ==  \begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}
A^{-1} = \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}  ==  \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}  ==  A^{-1} = \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}
3  ==  f(2) = 3
f(2) = 3  ==  3
5  ==  \sqrt{9+16} = \sqrt{25} = 5
\frac{1}{3}  ==  \frac{1}{3} \approx 0.333
0.333  ==  \frac{1}{3} \approx 0.333
x = 0.5  ==  x = \frac12
\text{10 a.m.}  ==  10:00 AM
5\text{ h}  ==  5 hours
30 \text{ N}  ==  30 newtons
6.02 \times 10^{23}  ==  6.02e23
4.5 \text{ kJ}  ==  4500 J
1 \text{ atm}  ==  1 atm
3 \text{ V}  ==  3 volts
100 \text{ nm}  ==  100 nm
5\ \mu\text{m}  ==  5 μm
5\ \mu\text{m}  ==  0.005 mm
25^\circ\text{C}  ==  25 °C
x = 2, \quad y = 3  ==  (x,y) = (2,3)
p \to q  ==  p \to q
\frac{dy}{dx} = \frac{x}{y}  ==  \frac{x}{y}
\int_0^1 x dx = \frac12  ==  \frac12
\lim_{x\to 0} f(x) = 1  ==  1
1  ==  \lim_{x\to 0} \frac{\sin x}{x} = 1
\frac12  ==  \int_0^1 x dx = \frac12
\sum_{i=1}^{3} i = 6  ==  6
6  ==  \sum_{i=1}^{3} i = 6
\gcd(12, 18) = 6  ==  6
\log_2 8 = 3  ==  3
50  ==  50\text{ students}
forty-two  ==  42
the first  ==  first
P(A)+P(B)=1  ==  P(B)+P(A)=1
\begin{pmatrix} a & b \\ c & d \end{pmatrix}^2  ==  \begin{pmatrix} a^2+bc & ab+bd \\ ac+cd & bc+d^2 \end{pmatrix}
a^3 + b^3 + c^3 - 3abc  ==  \begin{vmatrix} a & b & c \\ c & a & b \\ b & c & a \end{vmatrix}
\frac{36}{5}  ==  \operatorname{lcm}(3.6, 2.4)
"""
DIFFERENT = r"""
\text{a function}  !=  \text{circle}
\text{right angle}  !=  \text{right triangle}
x = 1, y = 2  !=  \text{Maximum} = 2, \text{Minimum} = 1
(2, 1)  !=  z = 2, x^2 + y^2 = 1
P(A) = \frac{1}{2}  !=  \frac{1}{2}A
AB = 5  !=  CD = 5
AB = 5  !=  AB = 6
\angle ABC = 60^\circ  !=  \angle BAC = 60^\circ
\angle A = 60^\circ  !=  \angle B = 60^\circ
\triangle ABC  !=  \triangle ABD
\text{mean} = 3, \text{median} = 5  !=  \text{mean} = 5, \text{median} = 3
Alice: 3, Bob: 5  !=  Alice: 5, Bob: 3
A: 5, B: 12  !=  A = 12, B = 5
A: 5, B: 12  !=  B: 5, A: 12
x = 2, y = 3  !=  (3, 2)
x = 2, y = 3  !=  x = 3, y = 2
xy = 1  !=  x = 1
xy = 1  !=  xz = 1
xy = 1  !=  1
PV = nRT  !=  P = nRT
F = ma  !=  F = mg
P(A) = 1/2  !=  P(B) = 1/2
P(A \mid B) = 1/2  !=  P(B \mid A) = 1/2
P(A \cup B) = 1/2  !=  P(A \cap B) = 1/2
P(X=1) = 1/6  !=  P(X=2) = 1/6
f(x) = 2x  !=  f(x) = 2t
5 \text{ MW}  !=  5 \text{ mW}
5 \text{ g}  !=  5 \text{ G}
3 \text{ MHz}  !=  3 \text{ kHz}
5 \text{ m}  !=  5 \text{ s}
5 \text{ m}  !=  6
5m  !=  5
5x  !=  5
\$0.75  !=  0.75 cents
\$5  !=  5 cents
987654321  !=  987654320.0
1000  !=  1000.5
\{3, 5\}  !=  x = 3, y = 5
x = 1 or y = 1  !=  x = 1 and y = 1
x = 1 or y = 2  !=  (1, 2)
12  !=  12 =
12  !=  x^2 = 12
4  !=  x^2 = 4
0  !=  a + 3z = 0
6  !=  2x + 3y = 6
1  !=  \frac{x^2}{4} + \frac{y^2}{9} = 1
7  !=  2x = 7
3  !=  \sqrt{x} = 3
2  !=  \log x = 2
5  !=  |x - 1| = 5
5  !=  5 = 6
8  !=  3 + 4 = 8
8  !=  x = 9 = 8
12  !=  12 \sim 13
3.5  !=  \sqrt{10} \approx 3.5
21  !=  twenty-two
2/3  !=  three-halves
320000  !=  3.2 x 10^4
(1,2)  !=  \langle 2,1 \rangle
(1,5]  !=  [1,5[
(1,5)  !=  [1,5]
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}  !=  [[1,3],[2,4]]
2  !=  \begin{vmatrix} 1 & 2 \\ 3 & 4 \end{vmatrix}
\begin{pmatrix} 7 & 10 \\ 15 & 22 \end{pmatrix}  !=  2\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}
(\pm 3, 0)  !=  (3,0), (0,-3)
(\pm 3, 0)  !=  (3, 0)
\{1,2,2\}  !=  \{1,2,3\}
(1,2),(3,4)  !=  (3,4),(2,1)
\text{True}  !=  \{3\} \subset \{1,2\}
f^{-1}(x) = x  !=  f(x) = x
y' = 2x  !=  y = 2x
y'' = 2x  !=  y' = 2x
\mathbb{R} \setminus \{-2,2\}  !=  x \ne 2
\{2k \mid k \in \mathbb{Z}\}  !=  \{3k \mid k \in \mathbb{Z}\}
\mathbb{Z}^+  !=  \{n \in \mathbb{Z} \mid n \ge 0\}
2:3  !=  3 to 2
x \equiv 3 \pmod 7  !=  x \equiv 4 \pmod 7
x \equiv 3 \pmod 7  !=  x \equiv 3 \pmod 8
A \subset B  !=  A \supset B
(a,b) = (2,5)  !=  a = 5, b = 2
(2,3), (3,2)  !=  x = 2, y = 3 or x = 3, y = 3
12\frac12\%  !=  6\%
x^{*}  !=  x
\text{at least } 5  !=  5
\text{maximum } 5, \text{ minimum } 3  !=  \text{maximum } 3, \text{ minimum } 5
\text{maximum } 5, \text{ minimum } 3  !=  \text{maximum } 5, \text{ minimum } 5
x^2+y^2=25  !=  x^2 + y^2 = 5
y = 2x + 1  !=  2x
y = 2x + 1  !=  x = 2y + 1
\omega(2n)=\omega(n)  !=  \omega(3n)=\omega(n)
5 \text{ min}  !=  5 \text{ h}
20\%  !=  20 percentage points
\max = 5, \min = 3  !=  \min = 5, \max = 3
3 \text{ m}^2  !=  3 \text{ m}
6s^2  !=  6
S_{ABC} = 5  !=  S_{ABD} = 5
a_1 = 5, a_2 = 7  !=  a_1 = 7, a_2 = 5
A(1,2)  !=  A(2,1)
A(1,2), B(3,4)  !=  A(3,4), B(1,2)
v = 20 \text{ m/s}  !=  20 km/h
k\pi, k \in \mathbb{Z}  !=  2k\pi, k \in \mathbb{Z}
AB \parallel CD  !=  AB \perp CD
\vec{AB}  !=  \vec{BA}
\text{odd}  !=  \text{even}
\frac{NO}{BO} = 2  !=  \frac{BO}{NO} = 2
|AB| = 5  !=  |CD| = 5
2 apples  !=  3 apples
5  !=  5 or 6
1, 2  !=  a = 1 or b = 2
n(n+1) = 6  !=  n = 6
5  !=  \int_0^1 x dx = 5
3  !=  \log_2 9 = 3
10  !=  C(5,3,1)
a:b = 2:3  !=  a:b = 3:2
\frac{2}{3}  !=  \frac{b}{a} = \frac{3}{2}
3  !=  |\vec{a}| = 4
-6  !=  \vec{a}\cdot\vec{b} = 6
S_n = n^2  !=  a_n = n
\{1,2\}  !=  A \cap B = \{1\}
\{1,2\}  !=  \{A, B\} = \{3\}
x_1 = 1, x_2 = 3  !=  x_1 = 1, x_2 = 4
2 < x < 5  !=  [2, 5]
2 < x < 5  !=  2 < y < 6
\frac{x^2}{4} + y^2 = 1  !=  \frac{y^2}{4} + x^2 = 1
y = 2x - 5  !=  y = -2x + 5
f(2) = 3  !=  f(3) = 3
f(2) = 3  !=  g(2) = 3
f(2) = 3  !=  2
x = 2, y = 3  !=  x = 2
x = 2  !=  y = 2
4.5 \text{ kJ}  !=  4.5 J
100 \text{ nm}  !=  100 mm
25^\circ\text{C}  !=  25 °F
5\ \mu\text{m}  !=  5 mm
\text{Amy}=5, \text{Ben}=7  !=  Ben = 5, Amy = 7
\text{all real numbers except } 2  !=  \mathbb{R}
\text{all real numbers except } 2  !=  2
\text{all real numbers except } 2  !=  \mathbb{R} \setminus \{3\}
\text{maximum } 5  !=  5x
twenty  !=  21
0  !=  x + y = 0
6  !=  xy = 5
5  !=  x + 1 = 5
3  !=  x^2 - x = 3
5  !=  n! = 5
2  !=  e^x = 2
8  !=  2^n = 8
4  !=  \frac{x}{2} = 4
9  !=  (x+1)^2 = 9
x  !=  x + 1 = x
x + 1  !=  x + 2 = x + 1
\sqrt{2}  !=  \sqrt{2} \approx 2
\begin{pmatrix} 1 & 2 \end{pmatrix}  !=  \begin{pmatrix} 2 & 1 \end{pmatrix}
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}  !=  A = \begin{pmatrix} 1 & 2 \\ 3 & 5 \end{pmatrix}
5 \text{ Mb}  !=  5 \text{ MB}
5 \text{ mA}  !=  5 \text{ MA}
5 \text{ km}  !=  5 \text{ m}
2 \text{ dozen}  !=  2
\text{Alice}  !=  \text{Bob}
\text{5 or 6}  !=  5
\text{not } 5  !=  5
\text{less than } 5  !=  5
\pm 2  !=  2
(\pm 1, \pm 2)  !=  (1, 2)
AC  !=  AB
\angle A = 30^\circ, \angle B = 60^\circ  !=  \angle A = 60^\circ, \angle B = 30^\circ
P(0,1)  !=  P(1,0)
P(0,1), Q(2,3)  !=  Q(0,1), P(2,3)
x > 1 \text{ or } y < 0  !=  x > 1 \text{ and } y < 0
A \subseteq B  !=  B \subseteq A
\forall x  !=  \exists x
y'' + y = 0  !=  y' + y = 0
\frac{d^2y}{dx^2} = x  !=  \frac{dy}{dx} = x
\vec{i} + 2\vec{j}  !=  2\vec{i} + \vec{j}
\overline{z}  !=  z
\hat{x}  !=  x
A'  !=  A
A^c  !=  A
1.0 \times 10^{9}  !=  1.1 \times 10^{9}
12345678  !=  12345679.0
"""


def pairs(block: str, sign: str) -> list[tuple[str, str]]:
    found = [tuple(line.split(f"  {sign}  ")) for line in block.strip().splitlines()]
    return [(reference, answer) for reference, answer in found]


@pytest.mark.parametrize(("reference", "answer"), pairs(EQUAL, "=="))
def test_equal(reference: str, answer: str) -> None:
    assert compared(reference, answer).equal


@pytest.mark.parametrize(("reference", "answer"), pairs(DIFFERENT, "!="))
def test_different(reference: str, answer: str) -> None:
    assert not compared(reference, answer).equal


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("1", r"\text{the sum is } 1 = 2"),
        ("7", r"x^2 = 7"),
        (r"\sum_{2k=1}^{n} k", r"\sum_{k=1}^{n} k"),
        ("x", "x + 1 = x"),
    ],
)
def test_an_equation_is_no_value(reference: str, answer: str) -> None:
    assert not compared(reference, answer).equal


@pytest.mark.parametrize("size", [2, 6])
@pytest.mark.parametrize("power", [2, 6, 60])
def test_powers_of_matrices_take_bounded_time(size: int, power: int) -> None:
    row = " & ".join("abcdef"[:size])
    matrix = r"\begin{pmatrix} " + r" \\ ".join([row] * size) + r" \end{pmatrix}"
    compared(r"\frac12", "0.5")
    start = time.thread_time()
    compared(f"{matrix}^{power}", f"{matrix}^{{{power}}} + {matrix}")
    assert time.thread_time() - start < 1  # 20 ms where nothing else runs; what has no bound takes hours
