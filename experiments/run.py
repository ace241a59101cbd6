"""One configuration of your own, for one or several seeds; its runs are kept beside the committed ones, in my_results.

Command:  python -m experiments.run --method aldsgd --graph ring --workers 12 --epochs 20 --seeds 0 1 2
Prints:   the metrics of the worst, the mean and the averaged model at the last epoch, with intervals over the seeds.
Yours:    --method my.module:Class, --model my.module:build, --data my.module:data, found in the working directory.
"""

from experiments.command import Session, command
from experiments.configuration import linked
from experiments.options import OWN, configuration, execution, run_parser


def main(session: Session) -> None:
    options = run_parser(__doc__).parse_args()
    config = configuration(options)
    how = execution(options, OWN)
    from aldsgd.statistics import mean_interval
    from experiments.runner import train_missing

    configs = [linked(config, options.link).but(seed=seed) for seed in options.seeds]
    store = train_missing(session, "run", [(config.method, each.seed, each) for each in configs], how)
    runs = [store.load(each.record()) for each in configs]
    for run in runs:
        print(f"{store.folder / store.stem(run.config)}.csv")
    shown = [f"{which}_{metric}" for metric in runs[0].metrics for which in ("worst", "mean", "best", "averaged")]
    shown.append("consensus_distance")
    for column in shown:
        interval = mean_interval([run.network[column].iloc[-1] for run in runs])
        spread = f" ± {interval.half_width:.4g} (95 %, {len(runs)} seeds)" if len(runs) > 1 else " (one seed)"
        print(f"{column:{max(map(len, shown))}s} {interval.mean:.4g}{spread}")


if __name__ == "__main__":
    command(main)
