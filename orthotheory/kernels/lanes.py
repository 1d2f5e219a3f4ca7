"""Eight small problems at a time in vector LLVM IR, called from numba: inner products of rows, one sweep, combinations.

Entry l of a register belongs to problem l, so that the elimination of a small system needs no shuffles. Only the inner
products run along a row; their partial sums are kept for eight problems and then transposed and added.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LANES = 8
MOST = 8  # rows
SWEEPS = 3  # of eight problems together; few problems need more, and they are solved alone
EPS = 2.220446049250313e-16
SMALL, LARGE = 1e-200, 1e200  # squared row norms between them cannot overflow or vanish in what follows
DOUBLE, INDEX, BYTE = ir.DoubleType(), ir.IntType(64), ir.IntType(8)
VECTOR, MASK = ir.VectorType(DOUBLE, LANES), ir.VectorType(ir.IntType(1), LANES)
FUSED = ("contract", "nsz")


def pairs(m: int) -> list[tuple[int, int]]:
    """Return the pairs i >= k of rows, in the order in which their inner products are stored."""
    return [(i, k) for i in range(m) for k in range(i + 1)]


def tiles(m: int) -> list[list[tuple[int, int]]]:
    """Cut the pairs so that the sums of a tile and the rows that it reads fit 32 registers."""
    if m <= 6:
        return [pairs(m)]
    return [
        [p for p in pairs(m) if (p[0] < 4, p[1] < 4) == half] for half in ((True, True), (False, True), (False, False))
    ]


class Lane:
    """A register with the arithmetic of numbers."""

    def __init__(self, builder, value):
        self.b, self.value = builder, value

    def of(self, x) -> Lane:
        """Return a number as a register."""
        return x if isinstance(x, Lane) else Lane(self.b, ir.Constant(VECTOR, [float(x)] * LANES))

    def __add__(self, x):
        return Lane(self.b, self.b.fadd(self.value, self.of(x).value, FUSED))

    def __sub__(self, x):
        return Lane(self.b, self.b.fsub(self.value, self.of(x).value, FUSED))

    def __mul__(self, x):
        return Lane(self.b, self.b.fmul(self.value, self.of(x).value, FUSED))

    def __neg__(self):
        return self.of(0.0) - self

    def inverse(self) -> Lane:
        """Return 1 / x."""
        return Lane(self.b, self.b.fdiv(self.of(1.0).value, self.value))

    def call(self, name: str, *more) -> Lane:
        """Return an LLVM intrinsic function of registers."""
        kinds = [VECTOR] * (1 + len(more))
        f = cgutils.get_or_insert_function(self.b.module, ir.FunctionType(VECTOR, kinds), f"llvm.{name}.v{LANES}f64")
        return Lane(self.b, self.b.call(f, [self.value, *(self.of(x).value for x in more)]))

    def below(self, x):
        """Return where this is less than x."""
        return self.b.fcmp_ordered("<", self.value, self.of(x).value)

    def where(self, mask, other) -> Lane:
        """Return this where the mask holds, otherwise the other."""
        return Lane(self.b, self.b.select(mask, self.value, self.of(other).value))


def shuffle(b, x, y, order):
    """Return entries of two registers in this order."""
    return b.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), LANES), order))


def sums(b, x: list) -> Lane:
    """Return the sums of the entries of eight registers, by adding while transposing."""
    step = 1
    while len(x) > 1:
        low = [i + (LANES - step if i & step else 0) for i in range(LANES)]
        high = [i + step for i in low]
        x = [b.fadd(shuffle(b, p, q, low), shuffle(b, p, q, high)) for p, q in zip(x[::2], x[1::2], strict=True)]
        step *= 2
    return Lane(b, x[0])


def pointer(b, data, offset):
    """Return a pointer so many doubles on."""
    if not isinstance(offset, ir.Value):
        offset = ir.Constant(INDEX, offset)
    return b.gep(data, [offset])


def register(b, data, offset):
    """Return a pointer to a register so many doubles on."""
    return b.bitcast(pointer(b, data, offset), VECTOR.as_pointer())


def load(b, data, offset):
    """Load a register from anywhere."""
    return b.load(register(b, data, offset), align=8)


def store(b, value, data, offset):
    """Store a register anywhere."""
    b.store(value, register(b, data, offset), align=8)


def splat(b, number):
    """Return a register with one number in all places."""
    first = b.insert_element(ir.Constant(VECTOR, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    return shuffle(b, first, first, [0] * LANES)


def columns(b, n, body: Callable) -> None:
    """Run body(t, mask) over registers of columns; the mask is None except at the end."""
    whole = b.sdiv(n, ir.Constant(INDEX, LANES))
    with cgutils.for_range(b, whole, intp=INDEX) as loop:
        body(b.mul(loop.index, ir.Constant(INDEX, LANES)), None)
    done = b.mul(whole, ir.Constant(INDEX, LANES))
    rest = b.sub(n, done)
    with b.if_then(b.icmp_signed(">", rest, ir.Constant(INDEX, 0))):
        wide = ir.VectorType(INDEX, LANES)
        first = b.insert_element(ir.Constant(wide, ir.Undefined), rest, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        body(done, b.icmp_signed("<", ir.Constant(wide, list(range(LANES))), b.shuffle_vector(first, first, zeros)))


def read(b, data, offset, mask):
    """Load a register; what the mask excludes is not touched and reads as zero."""
    if mask is None:
        return load(b, data, offset)
    kind = ir.FunctionType(VECTOR, [VECTOR.as_pointer(), ir.IntType(32), MASK, VECTOR])
    f = cgutils.get_or_insert_function(b.module, kind, f"llvm.masked.load.v{LANES}f64.p0")
    return b.call(f, [register(b, data, offset), ir.Constant(ir.IntType(32), 8), mask, ir.Constant(VECTOR, None)])


def write(b, value, data, offset, mask):
    """Store a register; what the mask excludes is not touched."""
    if mask is None:
        return store(b, value, data, offset)
    kind = ir.FunctionType(ir.VoidType(), [VECTOR, VECTOR.as_pointer(), ir.IntType(32), MASK])
    f = cgutils.get_or_insert_function(b.module, kind, f"llvm.masked.store.v{LANES}f64.p0")
    b.call(f, [value, register(b, data, offset), ir.Constant(ir.IntType(32), 8), mask])


def arrays(context, builder, signature, args) -> list:
    """Return the data pointers of arrays and the values of numbers."""
    return [
        context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
        for kind, value in zip(signature.args, args, strict=True)
    ]


def for_each(b, m, body: Callable) -> None:
    """Run body(rows) for the number of rows m, 2 to MOST, that is known when the code runs."""
    end = b.append_basic_block("end")
    switch = b.switch(m, end)
    for rows in range(2, MOST + 1):
        case = b.append_basic_block(f"rows{rows}")
        switch.add_case(ir.Constant(INDEX, rows), case)
        b.position_at_end(case)
        body(rows)
        b.branch(end)
    b.position_at_end(end)


def shape(context, b, kind, value) -> tuple:
    """Return m and n of an array (b, m, n)."""
    return tuple(cgutils.unpack_tuple(b, context.make_array(kind)(context, b, value).shape, 3)[1:])


@intrinsic
def inner_products(typing, j, item, partial, lane):
    """Write the partial sums (pairs, 8, 8) of the inner products of the rows j[item], eight a pair, to one lane."""

    def code(context, b, signature, args):
        data, item, partial, lane = arrays(context, b, signature, args)
        m, n = shape(context, b, signature.args[0], args[0])
        base = pointer(b, data, b.mul(item, b.mul(m, n)))
        place = pointer(b, partial, b.mul(lane, ir.Constant(INDEX, LANES)))

        def of(m: int) -> None:
            rows = [pointer(b, base, b.mul(n, ir.Constant(INDEX, i))) for i in range(m)]
            for tile in tiles(m):
                total = {p: cgutils.alloca_once(b, VECTOR) for p in tile}
                for start in total.values():
                    b.store(ir.Constant(VECTOR, None), start)

                def body(t, mask, tile=tile, total=total):
                    x = {i: read(b, rows[i], t, mask) for i in sorted({i for p in tile for i in p})}
                    for i, k in tile:
                        b.store(b.fadd(b.load(total[i, k]), b.fmul(x[i], x[k], FUSED), FUSED), total[i, k])

                columns(b, n, body)
                for p in tile:
                    store(b, b.load(total[p]), place, pairs(m).index(p) * LANES * LANES)

        for_each(b, m, of)
        return context.get_dummy_value()

    return types.void(j, item, partial, lane), code


@intrinsic
def combination(typing, j, item, w, lane, x):
    """Write x[item] = sum_i w[i, lane] j[item, i]."""

    def code(context, b, signature, args):
        data, item, w, lane, x = arrays(context, b, signature, args)
        m, n = shape(context, b, signature.args[0], args[0])
        base, out, w = pointer(b, data, b.mul(item, b.mul(m, n))), pointer(b, x, b.mul(item, n)), pointer(b, w, lane)

        def of(m: int) -> None:
            rows = [pointer(b, base, b.mul(n, ir.Constant(INDEX, i))) for i in range(m)]
            weights = [splat(b, b.load(pointer(b, w, i * LANES))) for i in range(m)]

            def body(t, mask):
                s = b.fmul(weights[0], read(b, rows[0], t, mask), FUSED)
                for i in range(1, m):
                    s = b.fadd(s, b.fmul(weights[i], read(b, rows[i], t, mask), FUSED), FUSED)
                write(b, s, out, t, mask)

            columns(b, n, body)

        for_each(b, m, of)
        return context.get_dummy_value()

    return types.void(j, item, w, lane, x), code


@intrinsic
def first_sweeps(typing, m, partial, share, pivot, c, d, w, todo):
    """Run the first sweeps of block principal pivoting for every row of eight Jacobians.

    Writes the cosines c (pairs, 8), the row norms d (m, 8) and the weights w (m, 8) of what is solved; bit l of todo[i]
    says that row i of Jacobian l is not, because a sign is wrong or a pivot small, and of todo[m] that a row norm of
    Jacobian l is extreme, so that nothing was done for it.
    """

    def code(context, b, signature, args):
        m, partial, share, pivot, c_out, d_out, w_out, todo = arrays(context, b, signature, args)
        pivot = Lane(b, splat(b, pivot))

        def of(m: int) -> None:
            s = {
                p: sums(b, [load(b, partial, (at * LANES + lane) * LANES) for lane in range(LANES)])
                for at, p in enumerate(pairs(m))
            }
            good = ir.Constant(MASK, [1] * LANES)
            for i in range(m):
                good = b.and_(good, b.and_(pivot.of(SMALL).below(s[i, i]), s[i, i].below(LARGE)))
            d = [s[i, i].where(good, 1.0).call("sqrt") for i in range(m)]
            inverse = [x.inverse() for x in d]
            c = {}
            for at, (i, k) in enumerate(pairs(m)):
                c[i, k] = c[k, i] = ((s[i, k] * inverse[i]) * inverse[k]).where(good, 0.0) if i != k else pivot.of(1.0)
                store(b, c[i, k].value, c_out, at * LANES)
            shares = [Lane(b, splat(b, b.load(pointer(b, share, i)))) for i in range(m)]
            total = [pivot.of(0.0)] * m
            for i in range(m):
                v, solved = sweeps(b, c, i, m, pivot)
                reach = (shares[i] * d[i]).where(solved, 0.0)
                for k, x in v.items():
                    total[k] = total[k] + reach * x
                put_bits(b, b.and_(good, b.not_(solved)), todo, i)
            put_bits(b, b.not_(good), todo, m)
            for i in range(m):
                store(b, d[i].value, d_out, i * LANES)
                store(b, (shares[i] + inverse[i] * total[i]).value, w_out, i * LANES)

        for_each(b, m, of)
        return context.get_dummy_value()

    return types.void(m, partial, share, pivot, c, d, w, todo), code


def put_bits(b, mask, todo, at: int) -> None:
    """Store a mask as the bits of an integer, todo[at]."""
    bits = b.zext(b.bitcast(mask, BYTE), INDEX)
    b.store(bits, b.gep(todo, [ir.Constant(INDEX, at)]))


def sweeps(b, c: dict, i: int, m: int, pivot: Lane) -> tuple[dict[int, Lane], ir.Value]:
    """Run up to SWEEPS sweeps of block principal pivoting for row i, from the support of negative cosines.

    Return the multipliers of the last one, and where they are the solution.
    """
    rest = [k for k in range(m) if k != i]
    support = {k: cgutils.alloca_once(b, MASK) for k in rest}
    kept = {k: cgutils.alloca_once(b, VECTOR) for k in rest}
    solved = cgutils.alloca_once(b, MASK)
    for k in rest:
        b.store(c[i, k].below(0.0), support[k])
    count = cgutils.alloca_once(b, INDEX)
    b.store(ir.Constant(INDEX, 0), count)
    body, end = b.append_basic_block("sweep"), b.append_basic_block("solved")
    b.branch(body)
    b.position_at_end(body)
    v, flip, small = one_sweep(b, c, i, m, {k: b.load(support[k]) for k in rest}, pivot)
    wrong = small
    for k in rest:
        wrong = b.or_(wrong, flip[k])
        b.store(b.xor(b.load(support[k]), flip[k]), support[k])
        b.store(v[k].value, kept[k])
    b.store(b.not_(wrong), solved)
    again = b.add(b.load(count), ir.Constant(INDEX, 1))
    b.store(again, count)
    some = b.icmp_unsigned("!=", b.bitcast(wrong, BYTE), ir.Constant(BYTE, 0))
    b.cbranch(b.and_(some, b.icmp_signed("<", again, ir.Constant(INDEX, SWEEPS))), body, end)
    b.position_at_end(end)
    return {k: Lane(b, b.load(kept[k])) for k in rest}, b.load(solved)


def one_sweep(b, c: dict, i: int, m: int, inside: dict, pivot: Lane) -> tuple[dict, dict, ir.Value]:
    """Solve C_FF v = -c_F; return v, which signs are wrong, and where a pivot of the factor is too small."""
    rest = [k for k in range(m) if k != i]
    zero, one = pivot.of(0.0), pivot.of(1.0)
    a = {(p, q): c[p, q].where(b.and_(inside[p], inside[q]), 0.0) for p in rest for q in rest if q < p}
    a |= {(p, p): one for p in rest}
    z = {p: (-c[i, p]).where(inside[p], 0.0) for p in rest}
    least, inverse, low = one, {}, {}
    for at, k in enumerate(rest):
        least = least.call("minnum", a[k, k])
        inverse[k] = a[k, k].call("maxnum", pivot).inverse()
        for above, r in enumerate(rest[at + 1 :]):
            low[r, k] = a[r, k] * inverse[k]
            for q in rest[at + 1 : at + 2 + above]:
                a[r, q] = a[r, q] - low[r, k] * a[q, k]
            z[r] = z[r] - low[r, k] * z[k]
    v: dict[int, Lane] = {}
    for at in range(len(rest) - 1, -1, -1):
        k = rest[at]
        v[k] = z[k] * inverse[k]
        for r in rest[at + 1 :]:
            v[k] = v[k] - low[r, k] * v[r]
    largest = zero
    for x in v.values():
        largest = largest.call("maxnum", x.call("fabs"))
    slack = (largest + 1.0) * (-4.0 * m * EPS)
    flip = {}
    for p in rest:
        y = c[i, p]
        for q in rest:
            y = y + c[p, q] * v[q]
        flip[p] = v[p].where(inside[p], y).below(slack)
    return v, flip, least.below(pivot)
