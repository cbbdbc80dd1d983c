#include <doctest/doctest.h>

#include "shared.h"

namespace keepstep::tests {

TEST_CASE("a shared thing is made once, as long as somebody has it") {
    internal::Shared shared;
    int made = 0;
    const auto get = [&](const char* key) {
        return shared.get<int>(key, [&] { return std::make_shared<int>(++made); });
    };
    auto one = get("a");
    CHECK((get("a") == one));
    CHECK(*get("b") == 2);
    CHECK(made == 2);
    one.reset();
    CHECK(*get("a") == 3);
}

TEST_CASE("a thing that could not be made is asked for again") {
    internal::Shared shared;
    CHECK_THROWS_AS(shared.get<int>("a", []() -> std::shared_ptr<int> { throw 1; }), int);
    CHECK(*shared.get<int>("a", [] { return std::make_shared<int>(7); }) == 7);
}

}  // namespace keepstep::tests
