"""What "equal" means, as pairs of answers for each kind: docs/explanation/equivalence.md says it in words.

Between a reference and an answer stands `==` where they are equal, `~~` where they are unless `strict`, else `!=`.
"""

import time

import pytest

from guerdon_rewards.mathematics.compare import same
from guerdon_rewards.mathematics.quantity import same_quantity
from guerdon_rewards.mathematics.verdict import compared, trees

PAIRS = {
    "single values": r"""
1{,}000  ==  1000
1,000  ==  1000
\sqrt{x}^2  ==  x
1/3  ==  \frac{1}{3}
\sqrt{8}  ==  2\sqrt{2}
\frac{\sqrt{3}}{3}  ==  \frac{1}{\sqrt{3}}
3 + 4i  ==  4i + 3
a \cdot b  ==  b a
\log 100  ==  \ln 100
|x|  ==  \sqrt{x^2}
\int x\,dx  ==  \int t\,dt
3 + \sqrt{2}i  ==  3 + i\sqrt{2}
2(\cos 60^\circ + i \sin 60^\circ)  ==  1 + \sqrt{3} i
e^{i\pi/3}  ==  \frac{1}{2} + \frac{\sqrt{3}}{2} i
\log_2 8  ==  3
\binom{5}{2}  ==  10
5!  ==  120
x^2-1  ==  (x-1)(x+1)
n!  ==  (n)!
101_2  ==  101_{2}
\sum_{k=1}^{n} k  ==  \sum_{j=1}^{n} j
\frac{a+b}{2}  ==  \frac{1}{2}(a+b)
\cos 2\theta  ==  1 - 2 \sin^2 \theta
\frac{e^x - e^{-x}}{2}  ==  \sinh x
\$1,200  ==  1200 dollars
101_2  ~~  101
10^{11}  !=  10^{11} - 1
101_2  !=  5
101_2  !=  101_3
\infty  !=  -\infty
\sum_{k=1}^{n} k  !=  \sum_{k=1}^{n} n
\cos 2\theta  !=  2 \cos \theta
1 + 2i  !=  2 + i
i  !=  -i
\sqrt{-4}  !=  2
\sqrt{-4}  !=  -2i
\frac{1}{x}  !=  x
\ln x  !=  \log_{10} x
x^{2y}  !=  x^{y^2}
n(n+1)/2  !=  n(n-1)/2
2^n  !=  n^2
\frac{n!}{2}  !=  \frac{n}{2}!
\binom{n}{2}  !=  \binom{n}{3}
p  !=  q
""",
    "rounding": r"""
0.5  ==  \frac12
14 - i  ==  14.0 + -1.0i
2^{-1}  ==  0.5
1.5 \times 10^3  ==  1500
1386.15x  ~~  1386.1538x
\frac{1}{3}  ~~  0.333333
6.67  ~~  \frac{20}{3}
0.333  ~~  1/3
3.14  ~~  \pi
\sqrt{2}  ~~  1.41421356
1.414  ~~  \sqrt 2
1386.15x  !=  1386.16x
27.70 - 22.30 = 5.40  !=  27.70 - 22.31 = 5.40
1/3  !=  0.33
5  !=  5.1
0.5  !=  50
785.12  !=  784
300.58  !=  300.59
0.00000003  !=  0.00000001
6.67  !=  6.68
6.67  !=  6.674
6  !=  6.2
1.414  !=  1.415
\$1,200  !=  1.200
""",
    "units, percent, degrees": r"""
8:34 p.m.  ==  20:34
7:30 am  ==  7:30
60 mph  ==  60 miles per hour
50\%  ==  \frac{1}{2}
50\%  ==  50 \%
30^\circ  ==  30°
180^\circ  ==  \pi
5 \text{ cm}  ==  5 cm
1 \text{ m}  ==  100 \text{ cm}
2 \text{ hours}  ==  120 minutes
5 \text{ feet } 6 \text{ inches}  ==  66 \text{ inches}
3\text{ million}  ==  3000000
10\%  ==  0.10
0.5  ==  50\%
12 \text{ dollars}  ==  \$12
4\pi \text{ cm}^3  ==  4\pi cm^3
50\%  ~~  50
50  ~~  50\%
30^\circ  ~~  30
64 \text{ square feet}  ~~  64
12\pi  ~~  12\pi \text{ cm}^2
5  ~~  5 m
25  ~~  25 m^2
\angle A = 30^\circ  ~~  30
12 \text{ cm}  ~~  12
12  ~~  12 \text{ cm}
x = 12 \text{ cm}  ~~  12
19.6 \text{ m/s}  ~~  19.6
5 \text{ hours}  ~~  5
3:01  !=  3
2 \text{ m}  !=  2 \text{ cm}
3 \text{ million}  !=  3
3  !=  3 \text{ million}
30 minutes  !=  30^\circ
30^\circ  !=  30 minutes
45 km/h  !=  45^\circ
30 \text{ square feet}  !=  30 \text{ feet}
\$5  !=  €5
50\%  !=  5\%
50\%  !=  0.05
30^\circ  !=  \frac{\pi}{3}
12 \text{ cm}  !=  12 \text{ cm}^2
12 \text{ cm}  !=  13 \text{ cm}
12 \text{ cm}  !=  12 \text{ kg}
12 \text{ cm}  !=  13
12  !=  13 \text{ cm}
10\%  !=  10\text{ cm}
19.6 \text{ m/s}  !=  19.6 \text{ m/s}^2
0.5  !=  5\%
4\pi \text{ cm}^3  !=  4\pi \text{ cm}^2
5 \text{ hours}  !=  5 \text{ minutes}
""",
    "words": r"""
\text{odd}  ==  The function is odd.
\text{yes}  ==  True
(C)  ==  C. the third one
\text{yes}  ==  Yes
\text{no solution}  ==  \emptyset
\infty  ==  \text{infinitely many}
three  ==  3
two thirds  ==  \frac{2}{3}
f(x) = 1 \text{ for all } x  ~~  f(x) = 1
12  ~~  12 \text{ units}
odd  !=  oddd
Yes, with p=2  !=  Yes
\text{east}  !=  \text{west}
f(x) = 1 \text{ for all } x > 0  !=  f(x) = 1 \text{ for all } x < 0
p \wedge q  !=  p \vee q
\text{A and B}  !=  \text{A}
\text{all real numbers}  !=  \text{no real numbers}
\text{Monday}  !=  \text{Tuesday}
\text{odd}  !=  \text{even}
\text{yes}  !=  \text{no}
\text{no solution}  !=  0
\text{infinitely many}  !=  \text{none}
p \to q  !=  q \to p
A \cup B  !=  A \cap B
A \subset B  !=  B \subset A
AB \parallel CD  !=  AB \perp CD
p \wedge q  !=  \neg p \wedge q
x \in A  !=  x \notin A
12^{\text{th}}  !=  13th
12 \text{ apples}  !=  12 \text{ oranges}
\text{A}  !=  \text{B}
\text{(A)}  !=  \text{(B)}
\text{increasing}  !=  \text{decreasing}
""",
    "definitions": r"""
x = 5  ==  5 = x
x = 5  ==  x=5.0
x = 2+3 = 5  ==  x = 5
y = 2x + 1  ==  y - 2x = 1
f(n) = n^2  ==  f(x) = x^2
f(n) = n^2  ==  f(n) = n \cdot n
y = \frac{1}{2}x - 3  ==  x - 2y = 6
y = \frac{1}{2}x - 3  ==  2y = x - 6
r = 2\cos\theta  ==  r = 2 \cos(\theta)
A = \pi r^2  ==  \pi r^2 = A
F = ma  ==  F = am
E = mc^2  ==  mc^2 = E
y = -\frac{2}{3}x + 4  ==  2x + 3y = 12
x = y = z = 2  ~~  2
5  ~~  x = 5
x = 5  ~~  5
y = x + 1  ~~  x + 1
x + 1  ~~  f(x) = x + 1
f(x) = 2x  ~~  y = 2x
a_n = 2n  ~~  2n
x = \frac{1}{3} \approx 0.333  ~~  \frac{1}{3}
0  ~~  b = 0
S_n = \frac{1}{2}(3^n - 1)  ~~  \frac{3^n-1}{2}
a_n = 2n + 1  ~~  2n + 1
n = 2k  ~~  2k
2  ~~  n = 2
f(x) = x^2 + 1  ~~  x^2 + 1
y = 3x + 2  ~~  3x + 2
x = y = z = 2  !=  x = y = a = 2
x = 5  !=  y = 5
x = 5  !=  x = 6
y = 2x  !=  z = 2x
f(x) = 2x  !=  g(x) = 2x
f(x) = 2x  !=  2t
f(1) = 5  !=  f(2) = 5
N = n  !=  f(n) = n
y = 2x  !=  x = 2y
y = x^2  !=  y = -x^2
y = \frac{1}{2}x - 3  !=  y = \frac{1}{2}x + 3
y = 2x  !=  y = 2x + 1
y = 2x  !=  2x + y = 0
A = \pi r^2  !=  A = 2\pi r
F = ma  !=  F = mb
n = 2k  !=  n = 2k + 1
a_n = 2n + 1  !=  a_n = 2n - 1
a_n = 2n  !=  b_n = 2n
f(x) = x^2  !=  f(x) = x^3
f'(x) = 2x  !=  f(x) = 2x
f(2) = 3  !=  f(3) = 2
P(x) = x  !=  P(y) = x
x = 5  !=  5 = 6
x^2 = 9  !=  x = 3
y = 3x + 2  !=  3x - 2
y = 3x + 2  !=  x = 3y + 2
2  !=  n = 3
n = 2  !=  m = 2
E = mc^2  !=  E = mc^3
""",
    "equations": r"""
2x + 4y = 3  ==  y = \frac34 - \frac{x}{2}
x^2 + y^2 = 1  ==  x^2 + y^2 - 1 = 0
\frac{x^2}{4}+\frac{y^2}{9}=1  ==  9x^2+4y^2=36
\frac{dy}{dx} = 2x  ==  \frac{dy}{dx} = 2 x
(x-1)^2+(y+2)^2=9  ==  x^2+y^2-2x+4y-4=0
x \equiv 3 \pmod 7  ==  x \equiv 3 \pmod{7}
2x + 4y - 3 = 0  ==  y = -\frac{1}{2}x + \frac{3}{4}
x^2+y^2=1  ==  1 = y^2 + x^2
x^2 = 4y  ==  y = \frac{x^2}{4}
3x - 4y + 5 = 0  ==  6x - 8y = -10
\frac{x-1}{2} = \frac{y}{3} = z  ==  \frac{x-1}{2} = \frac{y}{3} = z
y + 1 = x^2  ~~  x^2 - 1
y + 1 = -(2x-1)^2  ~~  -4x^2 + 4x - 2
xy = 1  !=  y = \frac{1}{x}
27.70 ÷ 22.30 = 1.24  !=  27.80 ÷ 22.30 = 1.24
42  !=  41 = 42
42  !=  41 = 40 + 1 = 42
x^2+y^2=1  !=  x^2+y^2=2
x^2+y^2=1  !=  x^2-y^2=1
x^2 = 4y  !=  y^2 = 4x
x \equiv 3 \pmod 7  !=  x \equiv 4 \pmod 7
x \equiv 3 \pmod 7  !=  x \equiv 3 \pmod 5
x \equiv 3 \pmod 7  !=  3
x^2 = 9  !=  3
x + y = 1  !=  x + z = 1
""",
    "constants and parameters": r"""
-\cos x + C  ==  C - \cos x
x = 2k, k \in \mathbb{Z}  ==  x = 2n, n \in \mathbb{Z}
x = \frac{\pi}{6} + 2k\pi  ==  x = 2\pi k + \pi/6
\frac{x^2}{2} + C  ~~  \frac{x^2}{2} + c
\ln x + C  ~~  \ln(3x) + C
x = k\pi  ~~  x = n\pi
n\pi  ~~  x = k\pi
x = k\pi  ~~  n\pi
x = k\pi, k \in \mathbb{Z}  ~~  x = k\pi
y = 3x^2 + C  ~~  3x^2 + c
\frac{\pi}{4} + k\pi  ~~  \frac{\pi}{4} + n\pi, n \in \mathbb{Z}
\tan x + C  ~~  \tan(x) + c
x^2 + C  !=  x^2
x^2  !=  x^2 + C
x^2 + C  !=  x^3 + C
a + C  !=  a + 1 + C
x = k\pi  !=  x = 2k\pi
x = k\pi  !=  x = k\pi + 1
x = 2k, k \in \mathbb{Z}  !=  x = 2k, k \in \mathbb{N}
x^2 + C  !=  x^2 + D + 1
-\cos x + C  !=  \cos x + C
\frac{\pi}{4} + k\pi  !=  \frac{\pi}{4} + 2k\pi
\frac{\pi}{4} + k\pi  !=  \frac{\pi}{3} + n\pi
x = \frac{\pi}{6} + 2k\pi  !=  x = \frac{\pi}{6} + k\pi
\frac{\pi}{6} + 2k\pi  !=  \frac{\pi}{6}
""",
    "sets of reals": r"""
[-\infty, 2)  ==  (-\infty, 2)
[-\infty, 2]  ==  (-\infty, 2]
x + y < 1  ==  2x + 2y < 2
x + y < 1  ==  1 > x + y
-x > -1  ==  x < 1
a < b < c  ==  c > b > a
a < c < b  ==  b > c > a
-1 < x < 3  ==  3 > x > -1
x \geq 5  ==  5 \leq x
2x > 4  ==  x > 2
x \neq 3  ==  3 \ne x
[1, 2)  ==  \left[1, 2\right)
(-\infty, 1) \cup (2, \infty)  ==  (2, \infty) \cup (-\infty, 1)
(0, 1] \cup [1, 2)  ==  (0, 2)
\mathbb{R} \setminus \{0\}  ==  (-\infty, 0) \cup (0, \infty)
[0, 2] \cap [1, 3]  ==  [1, 2]
(1, 5) \setminus \{2\}  ==  (1,2) \cup (2,5)
\{x \mid x > 1\}  ==  \{y \mid y > 1\}
\{x \mid 0 < x < 1\}  ==  \{x : 1 > x > 0\}
x > 1 \text{ or } x < -1  ==  x < -1 \text{ or } x > 1
x \in \mathbb{R}  ==  x \in (-\infty, \infty)
\{x \mid x > 1\}  ==  (1, \infty)
[0, \infty)  ==  [0, +\infty)
\left[-\frac{1}{2}, \frac{1}{2}\right]  ==  [-0.5, 0.5]
(-\infty, \infty)  ==  \mathbb{R}
x \in (-\infty, 0) \cup (0, \infty)  ==  x \in \mathbb{R} \setminus \{0\}
x \notin \{1\}  ==  x \neq 1
-3 \le x < 2  ==  2 > x \ge -3
0 < x \text{ and } x < 2  ==  0 < x < 2
|x - 3| < 5  ==  |3 - x| < 5
\text{all real numbers}  ==  \mathbb{R}
\mathbb{R}  ==  \text{all real numbers}
\begin{cases} x & x \ge 0 \\ -x & x < 0 \end{cases}  ==  \begin{cases} -x & x < 0 \\ x & x \ge 0 \end{cases}
x > y > 0  ==  0 < y < x
x^2 - y^2 > 4  ==  4 < x^2 - y^2
\{x \in \mathbb{R} : x \neq 2\}  ==  \mathbb{R} \setminus \{2\}
\{x \mid x^2 < 4\}  ==  \{y \mid y^2 < 4\}
(-2, 0) \cup (0, 2)  ==  (-2, 2) \setminus \{0\}
-\frac{1}{2} < x < \frac{1}{2}  ==  -0.5 < x < 0.5
x \in \{1, 2\}  ==  x \in \{2, 1\}
|x| > 2  ~~  (-\infty, -2) \cup (2, \infty)
|x-3| < 5  ~~  (-2, 8)
x \geq 0 \text{ or } x = -1  ~~  [0, \infty) \cup \{-1\}
(-\infty, 2)  ~~  x < 2
x \geq 2  ~~  [2, \infty)
(1, 2)  ~~  1 < x < 2
1 < x \leq 2  ~~  x \in (1, 2]
\{x \mid x > 1\}  ~~  x > 1
x < 1 \text{ or } x > 2  ~~  (-\infty, 1) \cup (2, \infty)
x < 1, x > 2  ~~  (-\infty, 1) \cup (2, \infty)
x > 1 \text{ and } x < 2  ~~  (1, 2)
x \neq 0  ~~  \mathbb{R} \setminus \{0\}
x \neq 0  ~~  (-\infty, 0) \cup (0, \infty)
(a, b)  ~~  a < x < b
(-1, 3)  ~~  x \in (-1, 3)
m \geq \sqrt{2}  ~~  m \in [\sqrt{2}, +\infty)
k < -5  ~~  (-\infty, -5)
(-\infty, -2] \cup \{1\}  ~~  a \leq -2 \text{ or } a = 1
\{x \in \mathbb{R} \mid x \ne 1\}  ~~  x \neq 1
x > 0  ~~  (0, \infty)
(-2, 2)  ~~  |x| < 2
[1, \infty)  ~~  y \geq 1
[2, 5]  ~~  2 \le f(x) \le 5
x \leq 3  ~~  (-\infty, 3]
k > 2  ~~  (2, \infty)
\text{all reals}  ~~  (-\infty, \infty)
|x| \geq 2  !=  (-\infty, -2) \cup (2, \infty)
x = 2  !=  x > 2
x < 1  !=  x \le 1
x < 1  !=  x > 1
-x > -1  !=  x > 1
x + y < 1  !=  x + y > 1
x + y < 1  !=  -x - y < -1
a \le 2  !=  x \le 2
a < b < c  !=  a < c < b
x \neq 3  !=  x = 3
0 < f(x) < 1  !=  0 < x < 1
x > 1, y < 2  !=  1 < x < 2
x \in (1, 2)  !=  y \in (1, 2)
x \in (1, 2)  !=  1 < y < 2
(1, 2)  !=  [1, 2]
(1, 2]  !=  [1, 2)
[1, 2]  !=  1 < x < 2
[1, 3]  !=  \{1, 2, 3\}
\{1, 2, 3\}  !=  1 \le n \le 3
(-\infty, 1) \cup (2, \infty)  !=  (-\infty, 1) \cup (3, \infty)
(-\infty, 1) \cup (2, \infty)  !=  (1, 2)
(-\infty, \infty)  !=  (0, \infty)
[0, 1], [0, 2]  !=  [0, 1]
[0, 1], [0, 2]  !=  [0, 2]
x > 1 \text{ or } x < -1  !=  x > 1
x \geq 0  !=  x \in \mathbb{R}
\mathbb{Z}  !=  \mathbb{R}
x \in \mathbb{Z}  !=  x \in \mathbb{R}
x^2 - 3x^2 + 3x < 5  !=  x < 2
x^3 - 3x^2 + 3x < 5  !=  x < 5
x \in [1, 2]  !=  x \in \{1, 2\}
x \geq 1 \text{ or } x \leq -1  !=  -1 \leq x \leq 1
x > 1 \text{ and } x < 2  !=  x > 1 \text{ or } x < 2
(-\infty, 0)  !=  (-\infty, 0]
(0, \infty)  !=  [0, \infty)
\mathbb{R} \setminus \{0\}  !=  \mathbb{R} \setminus \{1\}
\mathbb{R} \setminus \{0\}  !=  \mathbb{R}
x \neq 1  !=  x \neq -1
x \neq 1, 2  !=  x \neq 1
|x - 3| < 5  !=  |x + 3| < 5
\mathbb{R}  !=  x > 0
x<5  !=  x<5, x>0
\begin{cases} x & x \ge 0 \\ -x & x < 0 \end{cases}  !=  \begin{cases} -x & x \ge 0 \\ x & x < 0 \end{cases}
x > y > 0  !=  x > 0 > y
x > y > 0  !=  y > x > 0
|x| < 2  !=  x < 2
|x| < 2  !=  (-2, 3)
\{x \mid x^2 < 4\}  !=  \{x \mid x^2 > 4\}
\{x \mid x < 2\}  !=  \{x \mid x \le 2\}
(-2, 0) \cup (0, 2)  !=  (-2, 2)
[2, 5]  !=  (2, 5)
[2, 5]  !=  2 < f(x) < 5
0 < a < 1  !=  0 < a \le 1
a > 0, b > 0  !=  a > 0
a > 0, b > 0  !=  b > 0, a < 0
a > 0, b > 0  !=  x > 0, y > 0
x \ge 1  !=  n \ge 1
\neg p  !=  p
\mathbb{N}  !=  \mathbb{Z}
\mathbb{Q}  !=  \mathbb{R}
x \in \mathbb{R}, x \neq 1  !=  x \in \mathbb{R}
x \neq 1, x \neq 2  !=  x \neq 1
x \neq 1, x \neq 2  !=  x \neq 1, x \neq 3
""",
    "lists and sets": r"""
\{1, 2, 3\}  ==  \{3, 2, 1\}
\{1, 1, 2\}  ==  \{1, 2\}
\{\}  ==  \emptyset
x = 2 \text{ or } x = 3  ==  x = 3 \text{ or } x = 2
x=1, y=2  ==  y=2, x=1
\pm 2  ==  2, -2
\begin{cases} x = 1 \\ y = 2 \end{cases}  ==  x = 1, y = 2
\begin{cases} x + y = 3 \\ x - y = 1 \end{cases}  ==  x + y = 3, x - y = 1
\begin{cases} x + y = 3 \\ x - y = 1 \end{cases}  ==  x - y = 1, x + y = 3
\{(1,2),(3,4)\}  ==  \{(3,4),(1,2)\}
\{\{1\},\{2\}\}  ==  \{\{2\},\{1\}\}
\{i, -i\}  ==  \{-i, i\}
\{\frac12, 3\}  ==  \{3, 0.5\}
\{a, b\}  ==  \{b, a\}
x = -3 \text{ or } x = \frac{1}{2}  ==  x = \frac12 \text{ or } x = -3
\frac{-1 \pm \sqrt{5}}{2}  ==  \frac{-1+\sqrt5}{2}, \frac{-1-\sqrt5}{2}
\{1,2\} \cup \{3\}  ==  \{1,2,3\}
\{1,2,3\} \cap \{2,3,4\}  ==  \{2,3\}
x = -1, x = 3  ==  x = 3, x = -1
a = 2, b = -1  ==  b = -1, a = 2
1, 2  ~~  2, 1
\{1, 2\}  ~~  1, 2
1, 2  ~~  \{2, 1\}
2  ~~  \{2\}
x = 1, 2  ~~  1, 2
x = \pm 2  ~~  x = 2 \text{ or } x = -2
x = 1 \pm \sqrt{2}  ~~  1 + \sqrt 2, 1 - \sqrt 2
1, 2  ~~  x = 1, y = 2
x_1 = 1, x_2 = 2  ~~  2, 1
x_1 = 1, x_2 = 2  ~~  x = 1 \text{ or } x = 2
3, 4, 5  ~~  \{5, 4, 3\}
x = 3, x = 4  ~~  3, 4
x=3 \text{ or } 4  ~~  3, 4
x = -1 \text{ or } 3  ~~  \{-1, 3\}
-1, 3  ~~  x = -1 \text{ and } x = 3
\{(x, y) \mid x + y = 1\}  ~~  x + y = 1
x = 1 \text{ or } x = 2  !=  y = 1 \text{ or } y = 2
\{1, 2\}  !=  \{1, 2, 3\}
\{1, 2\}  !=  \{1, 3\}
1, 1, 2  !=  1, 2
1, 2  !=  1, 3
\{1, 0\}  !=  1
\{1, 2\}  !=  3
\emptyset  !=  0
\emptyset  !=  \{0\}
\pm 2  !=  2
\pm 2  !=  \pm 3
1 \pm \sqrt 2  !=  1 + \sqrt 2
1, 2  !=  x = 2, y = 1
x = 1, y = 2  !=  x = 2, y = 1
a = 1, b = 2  !=  x = 1, y = 2
\{(1,2)\}  !=  \{(2,1)\}
\{\{1\},\{2\}\}  !=  \{1, 2\}
\begin{cases} x + y = 3 \\ x - y = 1 \end{cases}  !=  x + y = 3
x = 1, y = 2  !=  x = 1
x = 1 \text{ or } x = 2  !=  x = 1
1  !=  1, 2
1, 2  !=  1
\{1\}  !=  \{1, 2\}
3, 4, 5  !=  3, 4
3, 4, 5  !=  3, 4, 6
\frac{-1 \pm \sqrt{5}}{2}  !=  \frac{1 \pm \sqrt{5}}{2}
\frac{-1 \pm \sqrt{5}}{2}  !=  \frac{-1 + \sqrt{5}}{2}
3 \text{ or } 4  !=  3
a = 2, b = -1  !=  a = -1, b = 2
x = -1, x = 3  !=  x = -1
x = -1 \text{ or } 3  !=  \{-1\}
1, 2, 3  !=  1, 2, 3, 4
\{1, 2, \ldots, 10\}  !=  \{1, 2, \ldots, 9\}
1 + 2i, 1 - 2i  !=  1 + 2i
\text{Increasing on } (0, 1)  !=  \text{Increasing on } (0, 2)
\emptyset  !=  \{1\}
""",
    "points, matrices, ratios": r"""
(1/2, \pi)  ==  (0.5, \pi)
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}  ==  \begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}
\begin{pmatrix} 1/2 \\ 0 \end{pmatrix}  ==  \begin{pmatrix} 0.5 \\ 0 \end{pmatrix}
(1, 2)  ==  \left(1, 2\right)
(2, 3, -1)  ==  \left( 2,\ 3,\ -1 \right)
(x-2)(x+3) = 0  ==  x^2 + x - 6 = 0
(\sqrt{2}, \frac{\pi}{4})  ==  (2^{1/2}, \pi/4)
(1, 2)  ~~  1, 2
(1, 2)  ~~  x = 1, y = 2
(1, 2)  ~~  y = 2, x = 1
(x, y) = (1, 2)  ~~  (1, 2)
(1, 2)  ~~  (x, y) = (1, 2)
A(1, 2)  ~~  (1, 2)
2 : 3  ~~  4 : 6
2 : 3  ~~  \frac{2}{3}
2:3:4  ~~  4:6:8
\begin{pmatrix} 1 \\ 2 \end{pmatrix}  ~~  (1, 2)
(1, 2, 3)  ~~  \begin{pmatrix} 1 & 2 & 3 \end{pmatrix}
(2, 3)  ~~  2\vec{i} + 3\vec{j}
(5,2),(7,2)  ~~  p=5,q=2;p=7,q=2
(1, 2), (3, 4)  ~~  (3, 4), (1, 2)
\{(1,2),(3,4)\}  ~~  (1,2), (3,4)
(2, -1)  ~~  x = 2, y = -1
(2,-1)  ~~  (x, y) = (2, -1)
(1, 2)  !=  (2, 1)
(1, 2)  !=  (1, 2, 3)
(1, 2)  !=  \{1, 2\}
(3, \frac{\pi}{2})  !=  \{\}
(1, 2)  !=  x = 2, y = 1
(1, 2)  !=  y = 1, x = 2
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}  !=  \begin{pmatrix} 1 & 3 \\ 2 & 4 \end{pmatrix}
\begin{pmatrix} 1 & 2 \end{pmatrix}  !=  (2, 1)
(2, 3)  !=  3\vec{i} + 2\vec{j}
2 : 3  !=  3 : 2
2 : 3  !=  2 : 4
2:3:4  !=  2:3:5
(1, 2), (3, 4)  !=  (1, 3), (2, 4)
\{1, 2\}  !=  (1, 2)
1 : 2  !=  2 : 1
1:2  !=  12
\vec{a} = (1, 2)  !=  \vec{b} = (1, 2)
(a, b)  !=  (b, a)
\begin{pmatrix} 1 \\ 2 \end{pmatrix}  !=  \begin{pmatrix} 1 & 3 \end{pmatrix}
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}  !=  (1, 2, 3, 4)
\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}  !=  1
(x-2)(x+3) = 0  !=  (x+2)(x-3) = 0
(2, -1)  !=  (x, y) = (-1, 2)
(2, -1)  !=  x = -1, y = 2
(1, 2, 3)  !=  (1, 3, 2)
(1, 2), (2, 1)  !=  (1, 2)
\vec{a} + \vec{b}  !=  \vec{a} - \vec{b}
9:4  !=  3:2
\sqrt{9}:\sqrt{4}  !=  9:4
2:3  !=  0.6
7:30  !=  7.5
1:2:3  !=  1:2
""",
}
ROWS = [(kind, line) for kind, text in PAIRS.items() for line in text.strip().splitlines()]


@pytest.mark.parametrize(("kind", "line"), ROWS, ids=[line for _, line in ROWS])
def test_pair(kind: str, line: str) -> None:
    reference, sign, answer = line.split("  ")
    assert bool(compared(reference, answer).equal) is (sign != "!="), f"{kind}, lenient"
    assert bool(compared(reference, answer, strict=True).equal) is (sign == "=="), f"{kind}, strict"
    if sign != "~~":
        assert bool(compared(answer, reference).equal) is (sign == "=="), f"{kind}, the other way round"


@pytest.mark.parametrize(
    "text", sorted({side for _, line in ROWS for side in (line.split("  ")[0], line.split("  ")[2])})
)
def test_every_answer_is_itself_in_other_dress(text: str) -> None:
    for dressed in (text + ".", f"${text}$", f" {text} ", text.replace("\\frac", "\\dfrac")):
        assert compared(text, dressed, strict=True).equal, dressed


@pytest.mark.parametrize(
    ("reference", "answer"),
    [("5", "5 m"), ("6.67", r"\frac{20}{3}"), ("2.667", r"\frac{8}{3}"), ("16.67", r"16.\overline{6}")],
)
def test_what_is_passed_over_depends_on_the_reference(reference: str, answer: str) -> None:
    assert compared(reference, answer).equal
    assert not compared(answer, reference).equal


def test_a_time_on_the_clock_is_no_ratio() -> None:
    assert same_quantity("3:01", "3") is False


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        (
            ",".join(rf"\sqrt{{{i}}}+x^{{{i}}}" for i in range(60)),
            ",".join(rf"\sqrt{{{i}}}+x^{{{i + 1}}}" for i in range(60)),
        ),
        (",".join(rf"\sin({i}x)" for i in range(64)), ",".join(rf"\sin({i + 1}x)" for i in reversed(range(64)))),
        (",".join(f"({i}!)!" for i in range(60)), ",".join(f"({i}!)!+1" for i in range(60))),
        (",".join(rf"x^{{{i}}}+y^2={i}" for i in range(40)), ",".join(rf"x^{{{i}}}+y^2={i + 1}" for i in range(40))),
        (r"\{" * 29 + "1" + r"\}" * 29, r"\{" * 28 + "1" + r"\}" * 28),
        ("+".join([r"\pm x"] * 60), "+".join([r"\pm y"] * 60)),
    ],
    ids=["expressions", "sines", "factorials", "equations", "nested", "signs"],
)
def test_long_answers_take_bounded_time(reference: str, answer: str) -> None:
    first, second = trees(reference)[0], trees(answer)[0]
    start = time.process_time()
    assert not same(first, second)
    assert time.process_time() - start < 2
