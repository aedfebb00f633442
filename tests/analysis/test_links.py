"""The network study: the fit finds the law that times follow, verdicts hold it to what it has not seen."""

import json
from argparse import Namespace

import pytest
from drawn_twice import assert_same_bytes, drawn, said
from fake_networks import EXTRAPOLATION, Fake

from lowbit.analysis import figures, networks, style, tables, verdicts
from lowbit.commands.aggregate_networks import run
from lowbit.errors import UserError

NAMES = figures.available("network")


def aggregated(root, fake, **extrapolation):
    fake.write(root)
    run(
        Namespace(
            results=root,
            extrapolation=json.dumps(EXTRAPOLATION | extrapolation),
            verdicts=root / "verdicts/network.json",
            tables=root / "tables",
        )
    )
    return tables.load("network", root / "tables", root / "verdicts")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return aggregated(tmp_path_factory.mktemp("networks"), Fake())


def test_the_fit_finds_the_law(whole):
    fits = whole.further["fits"].set_index("setting")["value"]
    assert fits["latency of a message"] == pytest.approx(3e-4, rel=1e-3)
    assert fits["host, for a byte"] == pytest.approx(3e-9, rel=1e-3)
    assert whole.runs["apart_percent"].abs().max() < 0.5
    assert set(whole.runs.loc[whole.runs["held_out"], "kind"]) == {"exchange", "training"}


def test_the_latency_that_links_were_given_is_not_fitted(tmp_path):
    content = aggregated(tmp_path, Fake(of_links=0.005))
    fits = content.further["fits"].set_index("setting")["value"]
    assert fits["latency of a message"] == pytest.approx(3e-4, rel=1e-3)
    assert content.runs["apart_percent"].abs().max() < 0.5


def test_a_step_waits_for_messages_in_a_row_however_many_are_sent(tmp_path):
    Fake().write(tmp_path)
    _, _, records = networks.read_run(tmp_path)
    model = networks.fit(records)

    slow = records["link"] == "100mbit"

    def predicted(changed):
        table = networks.measurements_table(changed, model, "a chip", "cpu")
        return table[table["kind"] == "training"].set_index(["task", "arm"])["predicted_seconds"]

    before, after = (
        predicted(records.assign(**{column: records[column] * (1 + 2 * slow)}))
        for column in ("messages", "messages_in_row")
    )
    assert before["100mbit", "hggtopk 0.01"] == pytest.approx(0.02 + 0.016838 + 3e-4, rel=1e-3)
    later = (after - before)["100mbit"].drop("noop") / model.latency_seconds
    assert later.to_dict() == pytest.approx({"allreduce": 4, "bf16": 4, "hggtopk 0.01": 2})


def test_what_a_step_takes_beside_its_exchange_is_known_from_the_fastest_fitted_link(tmp_path):
    Fake().write(tmp_path)
    _, _, records = networks.read_run(tmp_path)
    steps = records[records["kind"] == "training"].set_index(["link", "method"])["seconds"]
    hook = (records["kind"] == "training") & (records["method"] == "hggtopk 0.01")
    slower = records.assign(seconds=records["seconds"] + 0.05 * (hook & (records["link"] == "10gbit")))
    model = networks.fit(slower)
    table = networks.measurements_table(slower, model, "a chip", "cpu").set_index(["kind", "task", "arm"]).sort_index()
    found = table.loc["training", "predicted_seconds"]
    for link in ("100mbit", "1gbit"):
        assert found[link, "hggtopk 0.01"] == pytest.approx(steps[link, "hggtopk 0.01"] + 0.05, rel=5e-3)
        assert found[link, "bf16"] == pytest.approx(steps[link, "bf16"], rel=5e-3)
    held_out = table.loc["training", "held_out"]
    assert held_out[:, "hggtopk 0.01"].to_dict() == {"100mbit": True, "10gbit": False, "1gbit": True}
    fits = networks.fits_table(slower, model).set_index("setting")["value"]
    assert fits["hggtopk 0.01: a step beside its exchange"] == pytest.approx(0.07, rel=1e-2)


def test_what_the_model_is_given_is_not_held_out(whole):
    alone = whole.runs[whole.runs["arm"] == "noop"].set_index("task")["held_out"]
    assert alone.to_dict() == {"100mbit": False, "10gbit": False, "1gbit": False}


def test_claims_say_that_means_are_judged(whole):
    for record in outcomes(whole).values():
        assert "in the mean at most" in record["claim"]


def outcomes(content):
    return {record["id"].rpartition("/")[2]: record for record in content.verdicts}


def test_what_is_predicted_and_counted_is_supported(whole):
    found = outcomes(whole)
    assert {key: record["verdict"] for key, record in found.items()} == dict.fromkeys(
        ("framed_bytes", "framed_step_bytes", "exchange_seconds", "step_seconds"), verdicts.SUPPORTED
    )
    assert found["exchange_seconds"]["n"] == 6 * (3 + 2)  # all of the held-out link, one size of the others
    assert found["step_seconds"]["n"] == 3 * 2  # with an exchange, on every link but the fastest that was fitted
    assert found["framed_bytes"]["n"] == 6 * 9
    assert found["framed_step_bytes"]["n"] == 3 * 3


def test_a_link_that_does_not_follow_the_law_refutes_it(tmp_path):
    found = outcomes(aggregated(tmp_path, Fake(held_out=3.0, miscounted=1.2)))
    assert found["exchange_seconds"]["verdict"] in (verdicts.REFUTED, verdicts.INCONCLUSIVE)
    assert found["step_seconds"]["verdict"] in (verdicts.REFUTED, verdicts.INCONCLUSIVE)
    assert "on 1gbit" in found["step_seconds"]["note"]
    assert found["framed_bytes"]["verdict"] == found["framed_step_bytes"]["verdict"] == verdicts.REFUTED
    assert "on 1gbit" in found["exchange_seconds"]["note"]


def test_computing_is_never_that_of_the_measurement_itself(tmp_path):
    Fake().write(tmp_path)
    _, _, records = networks.read_run(tmp_path)
    changed = (
        (records["link"] == "100mbit") & (records["method"] == "hggtopk 0.01 gtopk") & (records["kind"] == "exchange")
    )
    records.loc[changed, "compute_seconds"] *= 100
    model = networks.fit(records)
    assert model.compute_seconds("100mbit", "hggtopk 0.01 gtopk", 300_000) == pytest.approx(3.6e-3)
    assert model.compute_seconds("10gbit", "hggtopk 0.01 gtopk", 300_000) == pytest.approx(0.36)


def test_loopback_alone_is_fitted_and_not_judged(tmp_path):
    content = aggregated(tmp_path, Fake(why_loopback="no right to make network namespaces"))
    found = outcomes(content)
    assert {record["verdict"] for record in found.values()} == {verdicts.NOT_MEASURED}
    assert "no right to make network namespaces" in found["step_seconds"]["note"]
    assert set(content.runs["task"]) == {"loopback"}
    for name in NAMES:
        with style.applied():
            figures.drawer("network", name)(content)


def test_a_damaged_run_says_how_to_make_it_again(tmp_path):
    with pytest.raises(UserError, match=r"not a finished run .*make it again: python -m lowbit links --spec"):
        networks.read_run(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_figure_has_the_same_bytes_every_time(name, whole, tmp_path, monkeypatch):
    assert_same_bytes("network", name, whole, tmp_path, monkeypatch)


def test_figures_say_what_is_measured_and_what_is_assumed(whole):
    words = {name: said(drawn("network", name, whole)) for name in NAMES}
    assert "Held out: " in words["predicted_and_measured"]
    assert "cpu: a chip, 2 cores" in words["predicted_and_measured"]
    assert "8192 tokens a worker" in words["when_it_pays"]
    assert "Nothing here is measured" in words["when_it_pays"]
    assert "Nothing here is measured" in words["crossover"]


def test_a_benchmark_of_ones_own_replaces_what_is_assumed(whole, tmp_path):
    path = tmp_path / "mine.csv"
    rows = [f"compressors,topk n=1000000 density={density} input=normal device=cuda,milliseconds,{value},ms"
            for density, value in ((0.01, 4.0), (0.001, 3.0))]  # fmt: skip
    path.write_text("\n".join(["benchmark,case,metric,value,unit", *rows]))
    content = aggregated(tmp_path / "root", Fake(), benchmark=str(path), compressor="topk")
    table = content.further["assumptions"].set_index("setting")
    measured = table[table["source"] != "assumed"]
    assert measured["value"].astype(float).to_dict() == pytest.approx(
        {"compress_seconds_per_entry, density 0.01": 4e-9, "compress_seconds_per_entry, density 0.001": 3e-9}
    )
    assert set(measured["source"]) == {f"{path}: topk"}
    assert "compress_bytes" not in table.index, "it is not used"
    assert set(whole.further["assumptions"]["source"]) == {"assumed"}
    keys = ["gradient", "workers", "gbit", "scheme", "density"]
    before, after = (each.curves.set_index(keys)["seconds"] for each in (whole, content))
    for density, seconds in ((0.01, 4e-9), (0.001, 3e-9)):
        place = ("GPT-2 medium", 8, 10, "oktopk", density)
        assert after[place] - before[place] == pytest.approx(355e6 * (seconds - 16 / 2e12), rel=1e-6)
    for name in ("when_it_pays", "crossover"):
        words = said(drawn("network", name, content))
        assert "Measured is what it takes to compress an entry, 4e+03 ps at 0.01, 3e+03 ps at 0.001, by" in words
        assert "mine.csv: topk; nothing else is" in words
        assert "Nothing here is measured" not in words


def test_the_map_agrees_with_the_command(whole):
    curves = whole.curves
    row = curves[(curves["workers"] == 1024) & (curves["gbit"] == 10) & (curves["scheme"] == "oktopk")].iloc[0]
    assert row["times_faster"] == pytest.approx(row["dense_seconds"] / row["seconds"])
    assert row["times_faster"] > 10
    assert (curves[curves["scheme"] == "allgather"].groupby("workers")["crossover"].max().diff().dropna() < 0).all()
