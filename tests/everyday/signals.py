"""Filters, transforms, images, interpolation."""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Interval
from jaxtyping import Complex, Float
from torch import Tensor

from tests.everyday.corpus import NATURAL, POSITIVE, SMALL, UNIT, Matrix, Scalar, Vector, by_hand, right, wrong

Signal = Annotated[Vector, NATURAL]


@right
def power_spectrum(x: Annotated[Float[Tensor, "4"], NATURAL]):
    return torch.fft.rfft(x).abs().square()


@right
def low_pass(x: Annotated[Float[Tensor, "6"], NATURAL]):
    spectrum = torch.fft.rfft(x)
    keep = torch.tensor([1.0, 1.0, 0.5, 0.0], dtype=x.dtype)
    return torch.fft.irfft(spectrum * keep, n=6)


@right
def circular_convolution(x: Annotated[Float[Tensor, "5"], NATURAL], k: Annotated[Float[Tensor, "5"], NATURAL]):
    return torch.fft.irfft(torch.fft.rfft(x) * torch.fft.rfft(k), n=5)


rfft_slip = by_hand(
    lambda x: torch.fft.rfft(x).real.clone(), lambda g, x: torch.fft.irfft(g.to(torch.complex128), n=4).to(g.dtype) * 4
)


@wrong
def real_part_doubled(x: Annotated[Float[Tensor, "4"], NATURAL]):
    return rfft_slip(x)


@right
def moving_average(x: Annotated[Float[Tensor, "6"], NATURAL]):
    return x.unfold(0, 3, 1).mean(-1)


@right
def exponential_smoothing(x: Signal, a: Annotated[Scalar, Interval(ge=0.1, le=0.9)]):
    y = x[0]
    out = [y]
    for value in x[1:4]:
        y = a * value + (1 - a) * y
        out.append(y)
    return torch.stack(out)


@right
def pre_emphasis(x: Signal):
    return torch.cat([x[:1], x[1:] - 0.97 * x[:-1]])


@right
def hann_window(x: Annotated[Float[Tensor, "8"], NATURAL]):
    return (x * torch.hann_window(8, dtype=x.dtype)).square().sum()


@right
def envelope(x: Annotated[Float[Tensor, "4"], POSITIVE]):
    spectrum = torch.fft.fft(x)
    gain = torch.tensor([1.0, 2.0, 1.0, 0.0], dtype=x.dtype)
    return torch.fft.ifft(spectrum * gain).abs()


@right
def decibels(p: Annotated[Vector, POSITIVE]):
    return 10 * torch.log10(p + 1e-10)


@wrong
def mu_law(x: Annotated[Vector, SMALL]):
    """At 0 the sign is 0, and so is what autograd makes of it; the function has a slope there."""
    return torch.sign(x) * torch.log1p(255 * x.abs()) / math.log(256)


@right
def companded(x: Annotated[Vector, SMALL]):
    return torch.asinh(20 * x) / math.asinh(20)


@right
def snr(clean: Annotated[Float[Tensor, "n"], POSITIVE], noisy: Annotated[Float[Tensor, "n"], Interval(ge=20, le=30)]):
    noise = noisy - clean
    return 10 * torch.log10(clean.square().sum() / noise.square().sum())


@right
def scale_invariant_sdr(estimate: Annotated[Vector, POSITIVE], target: Annotated[Vector, POSITIVE]):
    a = (estimate @ target) / (target @ target)
    s = a * target
    return -10 * torch.log10(s.square().sum() / ((estimate - s).square().sum() + 1e-2))


@right
def median_filter(x: Annotated[Float[Tensor, "5"], NATURAL]):
    return x.unfold(0, 3, 1).median(-1).values


@right
def sobel(x: Annotated[Float[Tensor, "1 1 4 4"], SMALL]):
    k = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=x.dtype).view(1, 1, 3, 3)
    gx, gy = F.conv2d(x, k), F.conv2d(x, k.transpose(2, 3))
    return torch.sqrt(gx**2 + gy**2 + 1e-3)


@wrong
def sobel_magnitude(x: Annotated[Float[Tensor, "1 1 3 3"], SMALL]):
    k = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=x.dtype).view(1, 1, 3, 3)
    gx, gy = F.conv2d(x, k), F.conv2d(x, k.transpose(2, 3))
    return torch.sqrt(gx**2 + gy**2)


@right
def gaussian_blur(x: Annotated[Matrix, SMALL], s: Annotated[Scalar, Interval(ge=0.5, le=2)]):
    t = torch.arange(-1, 2, dtype=x.dtype)
    k = torch.exp(-(t**2) / (2 * s * s))
    k = k / k.sum()
    return F.conv2d(x[None, None], torch.outer(k, k)[None, None], padding=1)


@right
def linear_interpolation(x: Annotated[Scalar, Interval(ge=0, le=3)], y: Annotated[Float[Tensor, "4"], NATURAL]):
    i = x.floor().long().clamp(0, 2)
    t = x - i
    return (1 - t) * y[i] + t * y[i + 1]


lerp_slip = by_hand(lambda a, b, t: a + t * (b - a), lambda g, a, b, t: (g * t, g * (1 - t), (g * (b - a)).sum()))


@wrong
def lerp_exchanged(a: Signal, b: Signal, t: Annotated[Scalar, UNIT]):
    return lerp_slip(a, b, t)


@right
def catmull_rom(p: Annotated[Float[Tensor, "4 2"], NATURAL], t: Annotated[Scalar, UNIT]):
    m = torch.tensor([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]], dtype=p.dtype) / 2
    powers = torch.stack([torch.ones_like(t), t, t**2, t**3])
    return powers @ m @ p


@right
def bezier(p: Annotated[Float[Tensor, "3 2"], NATURAL], t: Annotated[Scalar, UNIT]):
    a = torch.lerp(p[0], p[1], t)
    b = torch.lerp(p[1], p[2], t)
    return torch.lerp(a, b, t)


@right
def sample_image(
    image: Annotated[Float[Tensor, "1 1 3 3"], SMALL],
    at: Annotated[Float[Tensor, "1 2 1 2"], Interval(ge=-0.9, le=0.9)],
):
    return F.grid_sample(image, at, align_corners=False)


@right
def warp_by_affine(image: Annotated[Float[Tensor, "1 1 3 3"], SMALL]):
    theta = torch.tensor([[[0.9, 0.1, 0.05], [-0.1, 0.8, 0.0]]], dtype=image.dtype)
    return F.grid_sample(image, F.affine_grid(theta, [1, 1, 2, 2], align_corners=False), align_corners=False)


@right
def soft_argmax(x: Annotated[Vector, NATURAL]):
    return (x.softmax(0) * torch.arange(len(x))).sum()


@right
def gamma_correction(x: Annotated[Vector, Interval(ge=0.01, le=1)], g: Annotated[Scalar, Interval(ge=0.5, le=3)]):
    return x**g


@right
def srgb(x: Annotated[Vector, UNIT]):
    return torch.where(x <= 0.0031308, 12.92 * x, 1.055 * x.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)


@right
def luminance(x: Annotated[Float[Tensor, "n 3"], UNIT]):
    return x @ torch.tensor([0.2126, 0.7152, 0.0722], dtype=x.dtype)


@right
def ssim_of_patches(x: Annotated[Float[Tensor, "4"], UNIT], y: Annotated[Float[Tensor, "4"], UNIT]):
    mx, my = x.mean(), y.mean()
    cov = ((x - mx) * (y - my)).mean()
    return ((2 * mx * my + 1e-2) * (2 * cov + 1e-2)) / (
        (mx**2 + my**2 + 1e-2) * (x.var(correction=0) + y.var(correction=0) + 1e-2)
    )


@right
def complex_gain(z: Complex[Tensor, "n"]):
    return (z * (2 - 1j)).abs().square()


@right
def phase_rotation(z: Complex[Tensor, "n"], angle: Annotated[Scalar, SMALL]):
    return torch.view_as_real(z * torch.exp(1j * angle))


@right
def autocorrelation(x: Annotated[Float[Tensor, "5"], NATURAL]):
    return torch.stack([(x[: 5 - k] * x[k:]).sum() for k in range(3)])


@right
def two_pole_filter(x: Annotated[Float[Tensor, "5"], SMALL], a: Annotated[Scalar, SMALL], b: Annotated[Scalar, SMALL]):
    y = [x[0], x[1]]
    for t in range(2, 5):
        y.append(x[t] - a * y[-1] - b * y[-2])
    return torch.stack(y)


@right
def soft_clipping(x: Signal):
    return torch.where(x.abs() < 1, x - x**3 / 3, x.sign() * 2 / 3)
