"""What a profile says of a kernel: times that add up, bytes, operations, occupancy, what binds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import profile_kernels as kernels
import pytest

from outcrop.base.errors import UserError
from outcrop.silicon.profile import Profile, profile_run, report, summarise
from outcrop.silicon.profile.summary import critical_path, critical_times, distinct
from outcrop.silicon.timing.predict import predict


@pytest.fixture(scope="module")
def made() -> Profile:
    return profile_run(kernels.executed(kernels.products, (256, 512), (256, 1024)))


def test_the_time_is_the_clocks(made: Profile):
    prediction = predict(kernels.executed(kernels.products, (256, 512), (256, 1024)))
    estimate = made.estimate
    assert estimate.expected_ns == pytest.approx(prediction.expected_ns)
    assert (estimate.low_ns, estimate.high_ns) == pytest.approx((prediction.low_ns, prediction.high_ns))
    assert estimate.low_ns <= estimate.expected_ns <= estimate.high_ns
    assert 0 < made.body_ns < estimate.expected_ns


def test_rows_have_their_lines_and_times(made: Profile):
    assert {Path(line.file).name for line in made.lines} == {"profile_kernels.py"}
    for row in made.rows:
        assert row.start <= row.busy_until <= row.finish
        assert row.busy_until <= row.moving or not row.is_dma
    ops = {row.op: made.lines[row.line].text for row in made.rows}
    assert ops["nc_matmul"].startswith("nisa.nc_matmul(")
    assert ops["tensor_copy"] == "nisa.tensor_copy(result, total)"


def test_lines_decide_the_whole_body_between_them(made: Profile):
    assert sum(critical_times(made).values()) == pytest.approx(made.body_ns)
    path = critical_path(made)
    starts = [made.rows[at].start for at in path]
    assert starts == sorted(starts, reverse=True)
    assert made.rows[path[0]].finish == made.body_ns


def test_what_an_instruction_waited_for_ended_before_it_and_was_the_last(made: Profile):
    queues: dict[str, float] = {}
    found = 0
    for row in made.rows:
        if row.waited_for >= 0:
            found += 1
            producer = made.rows[row.waited_for]
            assert producer.finish <= row.start + 1e-6
            assert producer.finish + 100 >= queues.get(row.queue, 0.0)
        queues[row.queue] = row.busy_until
    assert found


def test_operations_and_bytes(made: Profile):
    summary = summarise(made)
    assert summary.flops == 2 * 256 * 512 * 1024
    assert summary.bf16_flops == summary.flops
    assert summary.transpose_flops == 0
    loads = 4 * 2 * 2 * (128 * 128 + 128 * 512) * 2
    assert summary.read.hbm == loads
    assert summary.written.hbm == 512 * 1024 * 2
    assert summary.written.psum == 4 * 2 * 2 * 128 * 512 * 4
    assert summary.transfers == 32 + 8
    assert summary.median_descriptor_bytes == 1024 or summary.median_descriptor_bytes == 256
    assert summary.small_descriptor_share == 1.0
    peak = made.chip.peak_flops_per_ns
    assert summary.mfu == pytest.approx(summary.flops / (peak * made.estimate.expected_ns))
    assert summary.hfu == summary.mfu == summary.mfu_of_type
    moved = summary.read.hbm + summary.written.hbm
    assert summary.mbu == pytest.approx(moved / (made.chip.hbm_bytes_per_ns * made.estimate.expected_ns))
    assert summary.intensity == pytest.approx(summary.flops / moved)
    assert summary.mfu < summary.roof_flops_per_ns / peak <= 1.0


def test_float32_takes_four_times_the_operations_and_transposes_count_apart():
    wide = summarise(
        profile_run(kernels.executed(kernels.products, (256, 512), (256, 1024), dtype=np.float32), advice=False)
    )
    assert wide.bf16_flops == 4 * wide.flops
    assert wide.mfu_of_type == pytest.approx(4 * wide.mfu)


def test_occupancy_rises_and_falls_to_nothing(made: Profile):
    samples = made.occupied[0]
    assert [each.at for each in samples] == sorted(each.at for each in samples)
    assert (samples[-1].sbuf, samples[-1].psum) == (0, 0)
    assert all(0 <= each.psum <= made.chip.psum_row_bytes for each in samples)
    assert max(each.psum for each in samples) >= 2048
    summary = summarise(made)
    assert summary.peak_sbuf == max(each.sbuf for each in samples)


def test_the_tensor_engine_is_limited_at_first(made: Profile):
    (first, *_) = made.limited[0]
    assert first.start == 0.0
    assert first.rate == 0.5
    assert summarise(made).throttle_share > 0.1
    none = profile_run(kernels.executed(kernels.copied, (128, 8192)), advice=False)
    assert none.limited[0] == ()


def test_arrows_lead_from_one_queue_to_another(made: Profile):
    assert made.edges
    for edge in made.edges:
        producer, consumer = made.rows[edge.producer], made.rows[edge.consumer]
        assert producer.finish <= consumer.start
        assert producer.is_dma or producer.queue != consumer.queue


def test_what_binds_a_copy_is_the_transfers_and_what_binds_additions_is_their_engine():
    copying = profile_run(kernels.executed(kernels.copied, (128, 65536)))
    assert copying.bounds[0].resource.startswith("dma")
    assert copying.bounds[0].without_ns < 0.5 * copying.estimate.expected_ns
    by_name = {each.resource: each for each in copying.bounds}
    assert by_name["vector"].without_ns > 0.8 * copying.estimate.expected_ns
    assert "tensor" not in by_name  # it is not used
    adding = profile_run(kernels.executed(kernels.adding, (128, 1024)))
    assert adding.bounds[0].resource == "vector"
    assert adding.bounds[0].busy_ns > 0.5 * adding.body_ns


def test_two_cores():
    made = profile_run(kernels.executed(kernels.halves, (256, 1024), grid=2))
    assert made.cores == 2
    assert {row.core for row in made.rows} == {0, 1}
    assert set(made.occupied) == {0, 1}
    one = profile_run(kernels.executed(kernels.halves, (128, 1024), grid=1))
    assert made.estimate.expected_ns == pytest.approx(one.estimate.expected_ns, rel=0.1)
    assert summarise(made).read.hbm == 2 * summarise(one).read.hbm
    assert summarise(made).mbu == pytest.approx(summarise(one).mbu, rel=0.1)


def test_an_uncalibrated_chip_says_so():
    made = profile_run(kernels.executed(kernels.copied, (128, 8192), target="trn3"), advice=False)
    assert "not calibrated" in made.estimate.error
    assert made.chip.name == "trn3"


def test_a_kernel_without_instructions_has_no_profile():
    with pytest.raises(UserError, match="executed no instruction"):
        profile_run(kernels.executed(lambda a: a, (4, 4)))


def test_the_report_tells_time_bracket_lines_and_that_nothing_spills(made: Profile):
    text = report(made, summarise(made))
    assert "expected, between" in text
    assert "profile_kernels.py:" in text
    assert "no spills" in text
    assert "MFU" in text


def test_instructions_done_together_count_once():
    row = profile_run(kernels.executed(kernels.adding, (128, 64)), advice=False).rows[1]
    assert len(distinct([row, row, row._replace(start=row.start + 1)])) == 2
