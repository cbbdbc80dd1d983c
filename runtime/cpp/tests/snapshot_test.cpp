// A bundle stays what it was when it was opened, or says that it is no longer there.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "keepstep/bundle.h"
#include "toy_bundle.h"

namespace keepstep::tests {
namespace {

namespace fs = std::filesystem;

/// The toy, and the same again as a second plan; all weights are one number.
void write_two_plans(const fs::path& folder, float weight) {
    write_bundle(folder);
    write(folder / "weights.safetensors",
          safetensors({{"unet.kernel",
                        {"F32", {4, 4}, float_bytes(std::vector<float>(16, weight))}}}));
    write(folder / "plans/other.json",
          replaced(plan_text("valid/toy.json"), R"("name": "toy")", R"("name": "other")"));
    seal(folder, R"(["toy", "other"])");
}

struct Two {
    Two() {
        write_two_plans(folder, 1);
        write_two_plans(newer, 2);
    }

    TemporaryFolder temporary;
    fs::path folder = temporary.path() / "bundle";
    fs::path newer = temporary.path() / "newer";
};

float weight(const Bundle& bundle) {
    const auto kernel = bundle.tensor("weights.safetensors", "unet.kernel");
    return kernel.ok() ? *static_cast<const float*>(kernel->data) : 0;
}

bool is_replaced(const Status& status, const std::string& path) {
    CHECK(status.code() == StatusCode::bundle_error);
    CHECK(status.rule() == 0);
    return contains(status.message(), "'" + path + "' was replaced since it was opened; open the "
                                                   "bundle again");
}

}  // namespace

TEST_CASE_FIXTURE(Two, "an exchanged folder still gives its old content") {
    const auto bundle = Bundle::open(folder.string());
    REQUIRE(bundle->player("toy", "null").ok());
    fs::rename(folder, temporary.path() / "old");
    fs::rename(newer, folder);
    CHECK(weight(*bundle) == 1);
    CHECK(bundle->player("other", "null").ok());
    CHECK(weight(*Bundle::open(folder.string())) == 2);
}

TEST_CASE_FIXTURE(Two, "a link that was turned to another bundle is not followed again") {
    const fs::path link = temporary.path() / "link";
    fs::create_symlink(folder, link);
    const auto bundle = Bundle::open(link.string());
    fs::remove(link);
    fs::create_symlink(newer, link);
    CHECK(weight(*bundle) == 1);
}

TEST_CASE_FIXTURE(Two, "what an export has taken away is refused") {
    const auto bundle = Bundle::open(folder.string());
    auto player = bundle->player("toy", "null");
    REQUIRE(weight(*bundle) == 1);
    fs::remove_all(folder);
    fs::rename(newer, folder);
    CHECK(weight(*bundle) == 1);  // it is mapped
    CHECK(is_replaced(bundle->player("other", "null").status(), "plans/other.json"));
    CHECK(bundle->player("toy", "null").ok());
}

TEST_CASE_FIXTURE(Two, "a file that was written anew is refused") {
    for (const char* path : {"plans/toy.json", "plans/toy.safetensors", "weights.safetensors"}) {
        const auto bundle = Bundle::open(folder.string());
        const std::string content = read(folder / path);
        write(folder / path, content);
        fs::last_write_time(folder / path, fs::file_time_type::min() + std::chrono::hours(1));
        CAPTURE(path);
        Status status = bundle->player("toy", "null").status();
        if (status.ok()) status = bundle->tensor(path, "unet.kernel").status();
        CHECK(is_replaced(status, path));
        fs::remove(folder / path);
        CHECK(is_replaced(bundle->tensor(path, "x").status(), path));
        write(folder / path, content);
        CHECK(Bundle::open(folder.string()).ok());
    }
}

TEST_CASE_FIXTURE(Two, "a new link to a file changes nothing") {
    const auto bundle = Bundle::open(folder.string());
    fs::create_hard_link(folder / "plans/toy.json", temporary.path() / "link");
    CHECK(bundle->player("toy", "null").ok());
}

TEST_CASE_FIXTURE(Two, "readers of a place that is exported to see no mix") {
    const fs::path place = temporary.path() / "place";
    const auto copy = [&](const fs::path& from, const fs::path& to) {
        fs::copy(from, to, fs::copy_options::recursive);
    };
    // As an export does it: a link is turned at once, and the old folder is removed.
    const auto turn_to = [&](const fs::path& target) {
        const fs::path draft = temporary.path() / "draft";
        fs::create_symlink(target, draft);
        fs::rename(draft, place);
    };
    copy(folder, temporary.path() / "0");
    turn_to(temporary.path() / "0");
    std::atomic<bool> done = false;
    std::atomic<int> exchanges = 0;
    std::thread exporter([&] {
        while (!done) {
            const fs::path old = temporary.path() / std::to_string(exchanges++);
            const fs::path next = temporary.path() / std::to_string(exchanges);
            copy(exchanges % 2 == 0 ? folder : newer, next);
            turn_to(next);
            fs::remove_all(old);
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
        }
    });
    int opened = 0;
    int wrong = 0;
    // On a machine that does other things it may take its time.
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while ((opened < 5 || exchanges < 10) && std::chrono::steady_clock::now() < end) {
        const auto bundle = Bundle::open(place.string());
        const Status status = bundle.ok() ? bundle->player("other", "null").status()
                                          : bundle.status();
        opened += bundle.ok() ? 1 : 0;
        const bool is_told = contains(status.message(), "was replaced since it was opened") ||
                             contains(status.message(), "exchanged 10 times");
        if (!status.ok() && !is_told) {
            ++wrong;
            MESSAGE(status.message());
        }
    }
    done = true;
    exporter.join();
    CHECK(wrong == 0);
    CHECK(exchanges >= 10);
    CHECK(opened >= 5);
}

}  // namespace keepstep::tests
