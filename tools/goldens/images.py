"""Writes testdata/flux/{metrics,classifier}.json: image metrics by numpy, logits by torch.

Run by `./x goldens`. The pictures are not stored: both sides make them from Philox noise. Where
scikit-image is installed, its numbers must agree.
"""

import json
import pathlib
import sys

import numpy as np
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tools" / "demo_model")]

import clf  # noqa: E402
from flux_reference import named_noise  # noqa: E402

TESTDATA = ROOT / "testdata" / "flux"
SEED = 21
LUMA = np.array([0.299, 0.587, 0.114])


def picture(index, height, width):
    """RGBA [height, width, 4] in 0 ... 1."""
    noise = named_noise(f"image.{index}", SEED, (height, width, 4))
    return np.clip(np.float32(0.5) + np.float32(0.25) * noise, 0, 1)


def changed(image, index):
    noise = named_noise(f"change.{index}", SEED, image.shape)
    return np.clip(image + np.float32(0.05) * noise, 0, 1)


def luma(image):
    return image[..., :3].astype(np.float64) @ LUMA


def ssim(a, b):
    """Wang et al. 2004 as written: 11 x 11 Gaussian windows inside the image."""
    x = np.arange(11) - 5
    g = np.exp(-(x**2) / (2 * 1.5**2))
    window = np.outer(g, g) / g.sum() ** 2
    a, b = (np.lib.stride_tricks.sliding_window_view(luma(p), (11, 11)) for p in (a, b))

    def mean(values):
        return (values * window).sum((2, 3))

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float((top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())


def check_with_skimage(a, b, psnr, ssims):
    try:
        from skimage.metrics import peak_signal_noise_ratio, structural_similarity
    except ImportError:
        return
    assert abs(peak_signal_noise_ratio(a, b, data_range=1.0) - psnr) < 1e-9
    for x, y, ours in zip(a, b, ssims):
        theirs = structural_similarity(
            luma(x), luma(y), gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
            data_range=1.0,
        )  # fmt: skip
        assert abs(theirs - ours) < 1e-9
    print("scikit-image agrees")


def metrics_case():
    a = [picture(i, 20, 17) for i in range(2)]
    b = [changed(image, i) for i, image in enumerate(a)]
    rgb_a, rgb_b = (np.stack(x)[..., :3].astype(np.float64) for x in (a, b))
    psnr = float(-10 * np.log10(np.mean((rgb_a - rgb_b) ** 2)))
    ssims = [ssim(x, y) for x, y in zip(a, b)]
    check_with_skimage(rgb_a, rgb_b, psnr, ssims)
    return {"psnr": psnr, "ssim": float(np.mean(ssims))}


def classifier_case():
    folder = ROOT / "demo" / "classifier"
    images = np.stack([picture(i, 32, 32) for i in range(4)])
    alpha = torch.from_numpy(images[..., 3])[:, None] * 2 - 1
    with torch.no_grad():
        logits = clf.forward(clf.load(folder), alpha)
    return {"logits": [float(f"{value:.9g}") for value in logits.flatten().tolist()]}


def main():
    for name, case in (("metrics", metrics_case()), ("classifier", classifier_case())):
        (TESTDATA / f"{name}.json").write_text(json.dumps(case) + "\n")
        print(f"{name}.json")


if __name__ == "__main__":
    main()
