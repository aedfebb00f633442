"""Measuring estimators: does a direction point where the loss falls, how far, and at what cost?"""
