#include "cli/verbs/verb.h"

namespace mezzotint::cli {
namespace {

// In the order of `mezzotint --help`: what a newcomer needs first.
constexpr Verb kVerbs[] = {
    {"demo", "quantize the shipped model every way, compare the pictures, write a report",
     define_demo},
    {"inspect", "say what a file is: dialect, layers, algorithms, bits, bytes, problems",
     define_inspect},
    {"quantize", "float weights in, quantized folder out", define_quantize},
    {"collect", "run a float model and write statistics of its activations", define_collect},
    {"stats", "show or merge files of statistics", define_stats},
    {"analyze", "rank layers by the error of their outputs, and choose an algorithm for each",
     define_analyze},
    {"dequantize", "quantized folder in, plain safetensors file out", define_dequantize},
    {"generate", "make an image with a float or quantized model", define_generate},
    {"compare", "float against quantized: images, quality, speed, as one HTML file",
     define_compare},
    {"bench", "what each algorithm would give here: time, bytes, before converting anything",
     define_bench},
    {"list-algorithms", "the algorithms and what their files hold", define_list_algorithms},
    {"list-kernels", "the kernels, and which of them this processor runs", define_list_kernels},
    {"presets", "what is kept float in known architectures, and why", define_presets},
    {"doctor", "processor, threads, memory, versions and environment of this machine",
     define_doctor},
    {"help", "this help, or that of a verb", define_help},
};

}  // namespace

std::span<const Verb> verb_table() { return kVerbs; }

}  // namespace mezzotint::cli
