// What the command line asks for.
#pragma once

#include <optional>
#include <string>

namespace keepstep::tool {

struct Request {
    std::string bundle;
    std::optional<std::string> plan;     ///< the first one if not given
    std::optional<std::string> backend;  ///< the first one that runs engines if not given
    std::optional<std::string> inputs;   ///< a safetensors file
    std::optional<std::string> outputs;  ///< the safetensors file to write
    std::optional<std::string> png;      ///< the picture to write
    int threads = 0;                     ///< 0: as many as the backend likes
    int repeat = 0;                      ///< runs that are measured after the first
    bool json = false;
    bool list = false;
    bool skip_hashes = false;
};

}  // namespace keepstep::tool
