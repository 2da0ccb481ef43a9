"""A small seeded world to run everything on: images, questionnaires, labels, a model, reviewers.

Belongs: making inputs in the formats of real ones, and the truth kept apart for the final scoring.
Does not: any stage of the pipeline; nothing outside this room may read the truth.
Concept: every random choice comes from a generator named by (seed, purpose), so that changing one
part leaves the bytes of the others alone. A toy: nothing here says anything about dermatology.
"""
