"""Trains "flipbook", the small video model that ships with Kinora."""
