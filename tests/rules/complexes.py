"""Examples in which complex numbers occur between real inputs and real outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from tests.rules.arguments import Example, i, r


def _parts(function: Callable[..., Any]) -> Callable[..., Tensor]:
    """The real and imaginary parts of what a function returns."""
    return lambda *args: torch.view_as_real(function(*args).resolve_conj())


def _z(x: Tensor) -> Tensor:
    return torch.view_as_complex(x)


COMPLEXES: Final[dict[str, Example]] = {
    "fft": (_parts(lambda x: torch.fft.fft(x) + torch.fft.fft(x, 4, norm="ortho")[..., :1]), r(2, 3)),
    "fft of complex numbers": (_parts(lambda x: torch.fft.fft(_z(x), norm="forward")), r(5, 2)),
    "ifft": (_parts(lambda x: torch.fft.ifft2(_z(x))), r(2, 6, 2)),
    "rfft": (_parts(torch.fft.rfft), r(2, 8)),
    "rfft of odd length": (_parts(lambda x: torch.fft.rfftn(x, dim=(0, 1))), r(3, 5)),
    "irfft": (lambda x: torch.fft.irfft(_z(x), 4) + torch.fft.irfft(_z(x), 5).sum(), r(3, 2)),
    "hfft": (lambda x: torch.fft.hfft(_z(x), 5, norm="ortho"), r(3, 2)),
    "ihfft": (_parts(lambda x: torch.fft.ihfft(x, dim=0)), r(6, 2)),
    "complex": (_parts(lambda x, y: torch.complex(x, y) * torch.complex(y, x).conj()), r(3), r(3)),
    "polar": (_parts(lambda x, y: torch.polar(x.abs() + 1, y)), r(3), r(3)),
    "complex arithmetic": (
        _parts(lambda x, y: 2 * _z(x) + (1 + 2j) * _z(y) - _z(x) * -_z(y) / (_z(y) * _z(y).conj() + 1)),
        r(3, 2), r(3, 2),
    ),
    "complex parts": (lambda x: _z(x).real * _z(x).conj().imag + _z(x).abs(), r(3, 2)),
    "complex conversions": (_parts(lambda x: x.to(torch.complex128) * _z(x[:, None].expand(3, 2).contiguous())), r(3)),
    "complex sums": (_parts(lambda x: _z(x).sum() + _z(x).sum(0) - torch.sgn(_z(x)).sum(1)[0]), r(2, 3, 2)),
    "complex exponentials": (
        _parts(lambda x: _z(x).exp() + _z(x).exp2() + _z(x).expm1() + _z(x).sigmoid() + _z(x).tanh()), r(3, 2)
    ),
    "complex logarithms": (
        _parts(lambda x: _z(x).log() + _z(x).log1p() + _z(x).log2() + _z(x).log10() + _z(x).angle()), r(3, 2)
    ),
    "complex powers": (
        _parts(lambda x, y: _z(x).sqrt() + _z(x).rsqrt() + _z(x) ** 3 + _z(x) ** -0.5 + _z(x) ** _z(y) + 1 / _z(y)),
        r(3, 2), r(3, 2),
    ),
    "complex sines": (
        _parts(lambda x: _z(x).sin() * _z(x).cos() + _z(x).tan() + _z(x).sinh() * _z(x).cosh()), r(3, 2)
    ),
    "complex products": (
        _parts(
            lambda x, y: _z(x) @ _z(y) + torch.bmm(_z(x)[None], _z(y)[None])[0] + _z(x).prod() + _z(y).prod(0)
            + _z(y).cumprod(0)[:1] + _z(y).cumsum(1)[1:] + _z(x).mean() + torch.trace(_z(x))
        ),
        r(2, 2, 2), r(2, 2, 2),
    ),
    "complex constants": (
        _parts(
            lambda x: _z(x) * torch.full((3,), 2 - 1j, dtype=torch.complex128) + torch.full_like(_z(x), 0.5j)
            + torch.where(_z(x) == 1j, _z(x), torch.where(_z(x) != 2, 2 * _z(x), _z(x)))
        ),
        r(3, 2),
    ),
    "complex inverse sines": (
        _parts(lambda x: _z(x).asin() + _z(x).acos() * _z(x).atan() + _z(x).asinh() - _z(x).acosh() * _z(x).atanh()),
        r(3, 2),
    ),
    "complex variances": (
        lambda x: _z(x).var(1) + _z(x).std(1) + _z(x).var() + torch.view_as_real(torch.var_mean(_z(x), 1)[1]).sum()
        + torch.std_mean(_z(x), 0, keepdim=True)[0].sum(),
        r(2, 3, 2),
    ),
    "complex batches": (
        _parts(lambda x, y, z: torch.addbmm(_z(x), _z(y), _z(z), beta=2, alpha=3)),
        r(2, 2, 2), r(2, 2, 3, 2), r(2, 3, 2, 2),
    ),
    "complex writes": (
        _parts(
            lambda x, y: _z(x).scatter(0, i(2, 0), 2.5) + _z(x).scatter_add(0, i(1, 1, 0), _z(y))
            + _z(x).index_fill(0, i(1), 1 - 2j) + _z(x).index_copy(0, i(2, 0, 1), _z(y))
            + _z(x).put(i(0, 1, 1), _z(y), accumulate=True) + _z(x).put(i(2), _z(y)[:1])
        ),
        r(3, 2), r(3, 2),
    ),
    "complex masks": (
        _parts(
            lambda x, y: _z(x).masked_select(i(1, 0, 1) > 0).sum() + _z(x).masked_scatter(i(0, 1, 1) > 0, _z(y))
            + torch.take(_z(x), i(2, 0, 0)) + _z(x).masked_fill(i(0, 1, 0) > 0, 2.0)
            + torch.where(i(1, 0, 1) > 0, _z(x), y[:, 0].detach())
        ),
        r(3, 2), r(3, 2),
    ),
    "complex borders": (
        _parts(
            lambda x: sum(
                torch.nn.functional.pad(_z(x).expand(1, *(2,) * (axes - 1), 2, 3), (1, 1) * axes, mode=how).sum()
                for axes in (1, 2) for how in ("replicate", "reflect")
            )
            + torch.nn.functional.pad(_z(x).expand(1, 2, 2, 2, 3), (1, 1) * 3, mode="replicate").sum()
            + torch.nn.functional.pad(_z(x).expand(1, 2, 2, 2, 3), (1, 1) * 3, mode="reflect").sum()
        ),
        r(2, 3, 2),
    ),
    "complex windows": (_parts(lambda x: torch.diagonal_scatter(_z(x), _z(x)[0, :2] ** 2)), r(2, 3, 2)),
    "complex moves": (
        _parts(
            lambda x: torch.cat([_z(x), _z(x).flip(0)])[i(0, 3)].index_select(0, i(1, 0)) + _written(_z(x))
            + torch.stack([_z(x)[0], _z(x)[1].roll(1)])
        ),
        r(2, 3, 2),
    ),
}  # fmt: skip


def _written(z: Tensor) -> Tensor:
    y = torch.zeros_like(z)
    y.copy_(z.conj())
    y[0].mul_(2)
    y.real[1].add_(1)
    y.diagonal().add_(z.diagonal() * z[0, 1])
    y[:, 2].fill_(2)
    y[0, 1].zero_()
    y = torch.where(i([1, 0, 1], [1, 1, 0]) > 0, y, torch.empty_like(z).copy_(torch.conj_physical(z)))
    return y + torch.nn.functional.pad(z[:, 1:], (0, 1)) + z.repeat(1, 1).gather(1, i([0, 1, 1], [2, 2, 0]))
