"""The whole objective in NumPy float64, written as it is printed.

Sums over tasks, rollouts, agents and tokens, one agent at a time: no rows, no
weights, no masks and no segments, of which the code under test is made.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Agent:
  """The trained tokens of one agent.

  Attributes:
    logits: [n, V], what the policy says before each of them.
    targets: int [n], the tokens.
    old: [n], log-probs that ratios are taken to.
    behavior: [n], log-probs of the engine.
    ref: [n], log-probs of the reference.
  """

  logits: np.ndarray
  targets: np.ndarray
  old: np.ndarray
  behavior: np.ndarray
  ref: np.ndarray


@dataclasses.dataclass(frozen=True)
class Options:
  """As in `losses.policy_loss` and `weights.token_weights`."""

  clip_low: float = 0.2
  clip_high: float = 0.28
  dual_clip: float = 10.0
  log_ratio_clamp: float = 20.0
  ratio_level: str = 'token'
  tis_level: str = 'off'
  tis_cap: float = 2.0
  kl_coef: float = 0.0
  entropy_coef: float = 0.0
  aggregation: str = 'dual_level'


def loss(tasks, options: Options) -> float:
  """-J of arXiv 2602.04634 §3 with every option.

  Args:
    tasks: for each task, for each rollout, (advantage, its trained agents).
    options: see above.
  """
  o = options
  tokens = sum(len(a.targets) for t in tasks for _, agents in t for a in agents)
  total = 0.0
  for group in tasks:
    for advantage, agents in group:
      for agent in agents:
        terms = _terms(agent, advantage, o)
        if o.aggregation == 'token_mean':
          total += terms.sum() / tokens
        else:
          total += terms.mean() / (len(tasks) * len(group) * len(agents))
  return -total


def _terms(agent: Agent, advantage: float, o: Options) -> np.ndarray:
  """What each token adds to the objective, [n]."""
  logits = agent.logits - agent.logits.max(-1, keepdims=True)
  p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  logp = np.log(p[np.arange(len(p)), agent.targets])
  log_ratio = logp - agent.old
  if o.ratio_level == 'sequence':
    # (π(sequence) / π_old(sequence))^(1/n), of which all tokens are cut alike.
    log_ratio = np.full_like(log_ratio, log_ratio.mean())
  clamp = o.log_ratio_clamp
  r = np.exp(np.clip(log_ratio, -clamp, clamp))
  bounded = np.clip(r, 1 - o.clip_low, 1 + o.clip_high)
  term = np.minimum(r * advantage, bounded * advantage)
  if advantage < 0:
    term = np.maximum(term, o.dual_clip * advantage)
  mismatch = agent.old - agent.behavior
  if o.tis_level == 'token':
    term = term * np.minimum(np.exp(mismatch), o.tis_cap)
  if o.tis_level == 'sequence':
    term = term * min(np.exp(mismatch.sum()), o.tis_cap)
  d = np.clip(agent.ref - logp, -clamp, clamp)
  entropy = -(p * np.log(p)).sum(-1)
  return term - o.kl_coef * (np.exp(d) - d - 1) + o.entropy_coef * entropy


def slope(function, at: np.ndarray, direction: np.ndarray, step=1e-6) -> float:
  """Derivative of a function of an array, by central differences."""
  up, down = function(at + step * direction), function(at - step * direction)
  return (up - down) / (2 * step)
