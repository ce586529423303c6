"""What peers.py makes of figures: pytest bench/peers_test.py"""

import peers


def case(engine, path, seconds, part="whole", samples=None, n=8):
    return {"engine": engine, "path": path, "part": part, "kernel": "row", "set": "big", "m": 4, "n": n, "k": 16,
            "threads": 1, "seconds": seconds, "samples": samples or [seconds], "peak": 1.0}  # fmt: skip


def test_rounds_become_one_case_with_the_samples_of_all():
    rounds = [[case("mezzotint", "int8", 3.0)], [case("mezzotint", "int8", 1.0)], [case("mezzotint", "int8", 2.0)]]
    (merged,) = peers.merged(rounds)
    assert merged["samples"] == [3.0, 1.0, 2.0]
    assert merged["seconds"] == 2.0
    assert merged["best_seconds"] == 1.0


def test_ready_codes_are_compared_with_ours_with_and_without_quantizing():
    cases = [case("mezzotint", "int8", 4.0), case("mezzotint", "int8", 1.0, part="quantize"),
             case("onednn", "onednn.int8", 6.0), case("torch", "int8", 9.0, part="gemm")]  # fmt: skip
    ratios = peers.ratios_of(cases)
    assert ratios["big", 1, "int8 gemm", "onednn.int8"] == [2.0]
    assert ratios["big", 1, "int8", "onednn.int8"] == [1.5]
    assert ratios["big", 1, "int8 gemm", "torch.int8 gemm"] == [3.0]
    # The better peer of each shape, not the better mean.
    assert ratios["big", 1, "int8 gemm", "the better of both"] == [2.0]


def test_the_better_peer_is_chosen_per_shape():
    cases = []
    for n, onednn, torch in ((8, 2.0, 8.0), (9, 8.0, 2.0)):
        cases += [case("mezzotint", "int8", 1.0, n=n), case("onednn", "onednn.int8", onednn, n=n),
                  case("torch", "int8", torch, part="gemm", n=n)]  # fmt: skip
    assert peers.ratios_of(cases)["big", 1, "int8", "the better of both"] == [2.0, 2.0]


def test_a_whole_peer_is_not_compared_with_our_product_alone():
    ratios = peers.ratios_of([case("mezzotint", "int8", 1.0), case("ort", "int8", 1.5)])
    assert ratios == {("big", 1, "int8", "ort.int8"): [1.5]}


def test_shapes_without_symbols_are_read(tmp_path):
    file = tmp_path / "shapes.txt"
    file.write_text("model m\n# none\nlinear 4096 3072 1024 1 big\nattention 256 300 4 128 1 tokens\n")
    linear, attention = peers.read_shapes(file)
    assert (linear["m"], linear["n"], linear["k"], linear["set"]) == (4096, 3072, 1024, "big")
    assert (attention["m"], attention["n"], attention["k"], attention["heads"]) == (256, 300, 512, 4)
