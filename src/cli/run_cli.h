// The whole command line tool as one call, so that tests run it in-process.
//
//   std::ostringstream out, err;
//   int code = run_cli({"inspect", "model.safetensors", "--json"}, {}, out, err);
//
// Exit codes are the values of ErrorCode, 0 for success. Results go to `out`, errors, progress and
// notes to `err`. With --json `out` holds exactly one JSON document, also after an error.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "cli/session.h"

namespace mezzotint::cli {

// `arguments` does not hold the program's name.
int run_cli(std::vector<std::string> arguments, const Terminal& terminal, std::ostream& out,
            std::ostream& err);

}  // namespace mezzotint::cli
