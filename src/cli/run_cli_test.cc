#include "cli/run_cli.h"

#include <gtest/gtest.h>

#include <string>

#include "cli/cli_testing.h"
#include "cli/error_text.h"
#include "cli/verbs/verb.h"
#include "mezzotint/version.h"

namespace mezzotint::cli {
namespace {

using testing::CliResult;
using testing::contains;
using testing::run;
using testing::run_json;

TEST(Cli, WrongCommandLinesExitWith2AndSayWhatIsMeant) {
  testing::expect_refused({
      {{"quantise"}, 2, "unknown verb 'quantise'\n  fix: did you mean quantize, dequantize? (mez"},
      {{"frobnicate", "x"},
       2,
       "unknown verb 'frobnicate'\n  fix: mezzotint --help lists the verbs"},
      {{"quantise", "x", "-o", "y"}, 2, "unknown verb 'quantise'"},
      {{"--jsn", "doctor"}, 2, "unknown option --jsn\n  fix: did you mean --json"},
      {{"doctor", "--thread", "2"}, 2, "did you mean --threads"},
      {{"quantize", "a", "-o", "b", "--alog", "w8a16"},
       2,
       "unknown option --alog\n  fix: did you mean --algo"},
      {{"quantize", "a", "--max-shard_sze=5GB"}, 2, "unknown option --max-shard-sze"},
      {{"doctor", "extra"}, 2, "unexpected argument 'extra'"},
      {{"inspect"}, 2, "PATH is required"},
      {{"quantize", "a"}, 2, "--output"},
      {{"doctor", "--threads", "none"},
       2,
       "--threads: expected a whole number from 1 to 4096, got none"},
      {{"doctor", "--threads", "0"}, 2, "--threads"},
      {{"doctor", "--threads", "-3"}, 2, "--threads"},
      {{"doctor", "--progress", "fancy"},
       2,
       "--progress: expected one of auto, bar, plain, none, got fancy"},
      {{"doctor", "--color", "pink"}, 2, "--color"},
      {{"list-kernels", "--shape", "1,2"}, 2, "--shape"},
      {{"list-kernels", "--shape", "1,2,0"},
       2,
       "--shape: expected three positive sizes M,N,K, got 0"},
      {{"presets", "flx"}, 2, "unknown preset 'flx'\n  fix: did you mean flux"},
      {{"help", "quantise"}, 2, "unknown verb 'quantise'"},
  });
}

TEST(Cli, WithoutArgumentsExplainsItselfAndExitsWith2) {
  const CliResult result = run({});
  EXPECT_EQ(result.code, 2);
  EXPECT_TRUE(contains(result.err, "quantize"));
  EXPECT_EQ(result.out, "");
}

TEST(Cli, HelpAndVersionSucceedOnStdout) {
  EXPECT_TRUE(contains(run({"--version"}).out, std::string("mezzotint ") + version()));
  EXPECT_TRUE(contains(run({"--help"}).out, "list-algorithms"));
  EXPECT_TRUE(contains(run({"help"}).out, "list-algorithms"));
  EXPECT_TRUE(contains(run({"quantize", "--help"}).out, "--algo"));
  EXPECT_TRUE(contains(run({"help", "quantize"}).out, "--algo"));
  EXPECT_EQ(run({"quantize", "--help"}).code, 0);
  EXPECT_EQ(run({"--version"}).code, 0);
}

TEST(Cli, HelpAndVersionAreJsonWhereThatIsAskedFor) {
  EXPECT_EQ(run_json({"--version"})["version"], version());
  EXPECT_TRUE(contains(run_json({"--help"})["help"].get<std::string>(), "list-algorithms"));
  EXPECT_TRUE(contains(run_json({"quantize", "--help"})["help"].get<std::string>(), "--algo"));
}

TEST(Cli, AnEmptyValueIsNotTheDefault) {
  for (const char* option : {"--quant", "--embeddings", "--noise"}) {
    const CliResult result =
        run({"generate", "demo", option, "", "--prompt-id", "0", "-o", "not-written.png"});
    EXPECT_EQ(result.code, 2) << option;
    EXPECT_TRUE(contains(result.err, std::string(option) + ": the value is empty")) << result.err;
  }
  EXPECT_EQ(run({"inspect", ""}).code, 2);
}

TEST(Cli, EveryVerbHasHelp) {
  for (const Verb& verb : verb_table()) {
    const CliResult result = run({std::string(verb.name), "--help"});
    EXPECT_EQ(result.code, 0) << verb.name;
    EXPECT_TRUE(contains(result.out, std::string(verb.summary))) << verb.name;
  }
}

TEST(Cli, UnderscoresEqualHyphensInOptionNames) {
  EXPECT_TRUE(contains(
      run({"quantize", "a", "-o", "b", "--dry_run", "--max_shard_size=x", "--algo=w8a16"}).err,
      "--max-shard-size: expected a size such as 5GB or 700MiB, got x"));
}

TEST(Cli, GlobalOptionsStandBeforeAndAfterTheVerb) {
  EXPECT_EQ(run({"--threads", "1", "doctor"}).code, 0);
  EXPECT_EQ(run({"doctor", "--threads", "1"}).code, 0);
}

TEST(Cli, AVerbNameMayBeAnArgument) {
  EXPECT_TRUE(contains(run({"inspect", "demo-that-is-not-there"}).err, "no such file"));
  EXPECT_TRUE(contains(run({"inspect", "doctor"}).err, "no such file or folder\n  file: doctor"));
}

TEST(Cli, ErrorsAreOneJsonDocumentOnStdout) {
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"quantise"},
                                                    {"inspect", "nowhere"},
                                                    {"doctor", "--threads", "x"}}) {
    const nlohmann::json document = run_json(arguments);
    const nlohmann::json& error = document["error"];
    EXPECT_FALSE(error["message"].get<std::string>().empty());
    EXPECT_EQ(error["exit_code"], run(arguments).code);
  }
  EXPECT_EQ(run_json({"inspect", "nowhere"})["error"]["code"], "input");
  EXPECT_EQ(run_json({"inspect", "nowhere"})["error"]["file"], "nowhere");
}

TEST(Cli, ColorIsOffOutsideATerminalAndOnWhenAsked) {
  EXPECT_FALSE(contains(run({"quantise"}).err, "\033["));
  EXPECT_TRUE(contains(run({"presets", "flx", "--color", "always"}).err, "\033[1;31merror: "));
  EXPECT_TRUE(contains(run({"presets", "flx"}, {.err_is_tty = true}).err, "error: "));
  EXPECT_FALSE(
      contains(run({"presets", "flx", "--color=never"}, {.err_is_tty = true}).err, "\033["));
}

TEST(ErrorText, HasOneLinePerDetail) {
  const Error error(ErrorCode::kInput, "weight_scale has the wrong shape",
                    {.layer = "blocks.3.attn.to_q",
                     .file = "a.safetensors",
                     .expected = "[3072,1]",
                     .found = "[9216,1]",
                     .fix = "export again"});
  EXPECT_EQ(error_text(error),
            "weight_scale has the wrong shape: expected [3072,1], got [9216,1]\n"
            "  layer: blocks.3.attn.to_q\n  file: a.safetensors\n  fix: export again");
  EXPECT_EQ(bare_message(error), "weight_scale has the wrong shape");
}

TEST(ErrorText, NeutralizesTerminalEscapes) {
  const Error error(ErrorCode::kInput, "bad", {.layer = "\033[2J"});
  EXPECT_EQ(error_text(error), "bad\n  layer: \\x1b[2J");
}

TEST(ErrorText, AsksToReportInternalErrors) {
  EXPECT_TRUE(contains(error_text(Error(ErrorCode::kInternal, "oops")), "Please report"));
}

}  // namespace
}  // namespace mezzotint::cli
