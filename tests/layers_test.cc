// Reads every #include below include/ and src/ and holds it against the layers of
// docs/architecture.md: a folder includes only what stands left of it.

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace fs = std::filesystem;

struct Layer {
  std::string_view name;
  int rank;
};

// Layers of equal rank do not see each other.
constexpr Layer kLayers[] = {{"base", 0},    {"numerics", 1}, {"tensor", 2}, {"format", 3},
                             {"kernels", 3}, {"solve", 4},    {"quant", 5},  {"nn", 6},
                             {"models", 7},  {"collect", 8},  {"cli", 9}};

std::optional<int> rank_of(std::string_view layer) {
  for (const Layer& row : kLayers) {
    if (row.name == layer) return row.rank;
  }
  return std::nullopt;
}

struct Include {
  std::string path;
  bool quoted;
  int line;
};

// The include directive of one line of text, if it is one.
std::optional<Include> parse_include(std::string_view text, int line) {
  const auto skip_blanks = [&] {
    text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  };
  skip_blanks();
  if (!text.starts_with('#')) return std::nullopt;
  text.remove_prefix(1);
  skip_blanks();
  constexpr std::string_view kDirective = "include";
  if (!text.starts_with(kDirective)) return std::nullopt;
  text.remove_prefix(kDirective.size());
  skip_blanks();
  if (!text.starts_with('"') && !text.starts_with('<')) return std::nullopt;
  const bool quoted = text[0] == '"';
  const size_t end = text.find(quoted ? '"' : '>', 1);
  if (end == std::string_view::npos) return std::nullopt;
  return Include{std::string(text.substr(1, end - 1)), quoted, line};
}

std::vector<Include> includes_of(const fs::path& file) {
  std::vector<Include> includes;
  std::ifstream in(file);
  std::string text;
  for (int line = 1; std::getline(in, text); ++line) {
    if (auto include = parse_include(text, line)) includes.push_back(*include);
  }
  return includes;
}

bool has_line(const fs::path& file, std::string_view wanted) {
  std::ifstream in(file);
  std::string text;
  while (std::getline(in, text)) {
    if (text == wanted) return true;
  }
  return false;
}

std::string first_folder(const std::string& path) { return path.substr(0, path.find('/')); }

bool is_standard(const Include& include) {
  return !include.quoted && include.path.find('/') == std::string::npos;
}

// Empty when `include` may stand in `file` (a path relative to the root).
std::string fault_in_public_header(const Include& include) {
  const bool ours = include.quoted && include.path.starts_with("mezzotint/");
  return ours || is_standard(include) ? "" : "a public header includes only std and mezzotint/";
}

std::string fault_in_isa_file(const std::string& file, const Include& include) {
  // avx512_bf16 extends avx512: a folder may include the one whose flags its own begin with.
  const std::string own_folder = fs::path(file).parent_path().string().substr(4);
  const std::string& path = include.path;
  const std::string folder = fs::path(path).parent_path().string();
  const bool is_extended = own_folder == folder || own_folder.starts_with(folder + "_");
  // kernels/*.h, and what all ISA folders share: kernels/cpu/*.inl
  const bool kernels_header =
      path.starts_with("kernels/") &&
      path.find('/', path.starts_with("kernels/cpu/") ? 12 : 8) == std::string::npos;
  if (is_standard(include)) return "";
  if (include.quoted && (path.starts_with("numerics/") || kernels_header || is_extended)) {
    return "";
  }
  return "an ISA file includes only std, numerics/, kernels/*.h, its own folder and what that "
         "extends";
}

std::string fault_in_layer(const std::string& layer, const Include& include) {
  if (include.path == "immintrin.h") return "intrinsics stand only in kernels/cpu/<isa>/";
  if (include.path.starts_with("Eigen/") && layer != "solve") return "Eigen stands only in solve/";
  if (!include.quoted || include.path.starts_with("mezzotint/")) return "";
  const std::optional<int> theirs = rank_of(first_folder(include.path));
  if (!theirs) return "a quoted include is a full path from src/ or include/";
  if (first_folder(include.path) == layer || *theirs < *rank_of(layer)) return "";
  return layer + " may not include " + first_folder(include.path);
}

// A header may come twice. A source begins with the header of its own name, which so compiles
// alone.
std::string fault_in_file(const fs::path& root, const std::string& file,
                          const std::vector<Include>& includes) {
  if (file.ends_with(".h"))
    return has_line(root / file, "#pragma once") ? "" : file + ": no #pragma once";
  const std::string header = fs::path(file).replace_extension(".h").string();
  if (!file.ends_with(".cc") || !fs::exists(root / header)) return "";
  const std::string own = header.substr(header.find('/') + 1);
  if (!includes.empty() && includes.front().path == own) return "";
  return file + ": begins with \"" + own + "\"";
}

// One "file:line: "include": reason" per include that breaks the layers.
std::vector<std::string> layer_faults(const fs::path& root) {
  std::vector<std::string> faults;
  for (const char* top : {"include", "src"}) {
    if (!fs::exists(root / top)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(root / top)) {
      const std::string extension = entry.path().extension().string();
      if (extension != ".h" && extension != ".cc" && extension != ".inc" && extension != ".inl") {
        continue;
      }
      const std::string file = entry.path().lexically_relative(root).string();
      const std::string layer = first_folder(file.substr(file.find('/') + 1));
      if (file.starts_with("src/") && !rank_of(layer)) {
        faults.push_back(file + ": unknown layer " + layer);
        continue;
      }
      const bool isa_file = file.starts_with("src/kernels/cpu/") && !file.ends_with("_test.cc") &&
                            !file.ends_with("_bench.cc") &&
                            std::count(file.begin(), file.end(), '/') > 3;
      const std::vector<Include> includes = includes_of(entry.path());
      const std::string fault = fault_in_file(root, file, includes);
      if (!fault.empty()) faults.push_back(fault);
      for (const Include& include : includes) {
        const std::string reason = file.starts_with("include/") ? fault_in_public_header(include)
                                   : isa_file                   ? fault_in_isa_file(file, include)
                                                                : fault_in_layer(layer, include);
        if (reason.empty()) continue;
        faults.push_back(file + ":" + std::to_string(include.line) + ": \"" + include.path +
                         "\": " + reason);
      }
    }
  }
  std::sort(faults.begin(), faults.end());
  return faults;
}

TEST(Layers, EveryIncludeStaysToTheLeft) {
  for (const std::string& fault : layer_faults(MZ_SOURCE_DIR)) ADD_FAILURE() << fault;
}

TEST(Layers, TheTestHasTeeth) {
  // Contents by file; each must give exactly the fault named (none where empty).
  const struct {
    const char* file;
    const char* content;
    const char* fault;
    bool with_header = false;  // an empty .h of the same name beside it
  } cases[] = {
      {"src/base/a.h", "#pragma once\n#include \"mezzotint/error.h\"\n#include <fmt/core.h>\n", ""},
      {"src/base/b.h", "#pragma once\n#include \"tensor/t.h\"\n",
       "src/base/b.h:2: \"tensor/t.h\": base may not include tensor"},
      {"src/format/f.cc", "#include \"kernels/ops.h\"\n", "format may not include kernels"},
      {"src/kernels/k.cc", "  #  include \"format/f.h\" // no\n", "kernels may not include format"},
      {"src/quant/q.cc", "#include \"solve/s.h\"\n#include \"quant/r.inc\"\n", ""},
      {"src/quant/e.cc", "#include <Eigen/Dense>\n", "Eigen stands only in solve/"},
      {"src/nn/n.cc", "#include \"n.h\"\n", "a quoted include is a full path"},
      {"src/nn/i.cc", "#include <immintrin.h>\n", "intrinsics stand only"},
      {"src/kernels/cpu/avx2/a.cc",
       "#include <immintrin.h>\n#include \"kernels/ops.h\"\n#include \"numerics/int.h\"\n"
       "#include \"kernels/cpu/avx2/dot.h\"\n",
       ""},
      {"src/kernels/cpu/avx2/b.cc", "#include \"base/check.h\"\n", "an ISA file includes only"},
      {"src/kernels/cpu/avx2/c.cc",
       "#include \"kernels/cpu/float_ops.inl\"\n#include \"kernels/cpu/avx512/dot.h\"\n",
       "an ISA file includes only"},
      {"src/kernels/cpu/avx2/d_test.cc", "#include \"base/check.h\"\n", ""},
      {"src/base/n.h", "#include <string>\n", "src/base/n.h: no #pragma once"},
      {"src/base/o.cc", "#include <string>\n#include \"base/o.h\"\n", "begins with \"base/o.h\"",
       true},
      {"src/base/p.cc", "// c\n#include \"base/p.h\"\n#include <string>\n", "", true},
      {"src/extra/x.cc", "", "unknown layer extra"},
      {"include/mezzotint/p.h", "#pragma once\n#include <fmt/core.h>\n",
       "a public header includes only"},
  };
  const fs::path root = fs::path(testing::TempDir()) / "mezzotint_layers_test";
  for (const auto& c : cases) {
    SCOPED_TRACE(c.file);
    fs::remove_all(root);
    fs::create_directories((root / c.file).parent_path());
    std::ofstream(root / c.file) << c.content;
    if (c.with_header) std::ofstream((root / c.file).replace_extension(".h")) << "#pragma once\n";
    const std::vector<std::string> faults = layer_faults(root);
    if (*c.fault == '\0') {
      EXPECT_EQ(faults, std::vector<std::string>{});
    } else {
      ASSERT_EQ(faults.size(), 1u);
      EXPECT_NE(faults[0].find(c.fault), std::string::npos) << faults[0];
    }
  }
  fs::remove_all(root);
}

}  // namespace
