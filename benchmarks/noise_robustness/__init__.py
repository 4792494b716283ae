"""A folder of sound in, how well each method hears damage through noise out: `python -m benchmarks.noise_robustness`.

In the order in which sound flows:

sound.py      DATA -> the machines that are tested, further machines that may join the training, noise clips
noise.py      noise clips -> stationary or non-stationary, by how much their level moves
sides.py      clips and a seed -> which serve training, memory and test; no recording and no noise on two sides
mixing.py     machine clip, noise clip, SNR -> one mixture, exact
mixtures.py   sides and a seed -> the mixtures of memory and test: a `MixtureSet` each, mixed when asked for
trial.py      one seed: its data folder for train.fit, its memories and tests; all methods of a seed get the same
networks.py   settings of train.fit and a trial -> a trained network that embeds mixtures
scorers.py    outputs for memory and test -> anomaly scores, by a registered name
methods.py    the rows of rivals, by name
choices.py    the rows of a network with one setting changed, by name
corpus.py     trial -> clean machine clips and noise of the training side, for train.retain
retention.py  the rows of an encoder frozen, retained, denoised and enrolled from few clips, by name
studies.py    the tables by name: their rows and their protocol
figures.py    scores of every noise and SNR -> AUC, pAUC, harmonic mean
results.py    the JSON file, which is the state that a later start goes on from
table.py      results -> tables
picture.py    results -> a picture
told_apart.py trained networks -> whether they tell the machine IDs apart: a command of its own

A new row is one more `Method` in methods.METHODS: a function that takes a `Trial` and gives a `Fitted` (outputs for
waves, and what it cost). A new column of scores is one more function in scorers.SCORERS, named by the methods that it
serves. A network that an earlier row of the same seed trained is at hand as `networks.trained`, which trains only
what the work folder does not hold yet.
"""
