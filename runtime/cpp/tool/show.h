// What the program prints: tables for people, and the same as JSON.
#pragma once

#include <string>
#include <vector>

#include "keepstep/player.h"
#include "measure.h"

namespace keepstep::tool {

/// A plan that was played.
struct Played {
    std::string plan;
    std::string backend;
    int runs;  ///< that were measured
    Times times;
    std::vector<std::string> written;  ///< files
    std::string note;                  ///< of the player
};

std::string played_text(const Played& played);
std::string played_json(const Played& played);

/// A plan that may be played, and what there is besides.
struct Listing {
    std::string plan;
    const Player& player;
    const std::vector<std::string>& plans;
    const std::vector<std::string>& backends;
};

std::string listing_text(const Listing& listing);
std::string listing_json(const Listing& listing);

/// A type as messages say it, such as `float32[2, 4]`.
std::string type_text(const TensorType& type);

}  // namespace keepstep::tool
